"""How many tokens of passages a request can afford: latency target, prefill speed, room; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hola.errors import InvalidRequest

DEFAULT_MAX_TOKENS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Tokens that passages may take in the prompt, their marks included, and what limits them."""

    tokens: int
    reason: str


def token_budget(
    *,
    prefill_tokens_per_s: float,
    latency_target_ms: float = math.inf,
    fixed_ms: float = 0.0,
    prompt_tokens: int = 0,
    room_tokens: int = DEFAULT_MAX_TOKENS,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Budget:
    """The largest number of passage tokens that keeps the wait for the first token in its target.

    `prefill_tokens_per_s` is measured on this device; `fixed_ms` is what the request waits for
    anyway (search, the first decoding step), `prompt_tokens` what else has to be prefilled (less
    what a prefix cache has). `room_tokens` is what the model's context leaves, `max_tokens` the
    request's own limit. 0 where nothing can be afforded. Raises InvalidRequest for a value that is
    negative, not a number, or no speed.
    """
    _check(prefill_tokens_per_s > 0, "prefill_tokens_per_s", prefill_tokens_per_s)
    _check(latency_target_ms >= 0, "latency_target_ms", latency_target_ms)
    _check(0 <= fixed_ms < math.inf, "fixed_ms", fixed_ms)
    _check(prompt_tokens >= 0, "prompt_tokens", prompt_tokens)
    room, own = max(room_tokens, 0), max(max_tokens, 0)
    left_ms = latency_target_ms - fixed_ms
    timed = left_ms / 1e3 * prefill_tokens_per_s - prompt_tokens
    if timed < min(room, own):
        tokens = max(math.floor(timed), 0)
        return Budget(
            tokens=tokens,
            reason=(
                f"{latency_target_ms:.0f} ms for the first token, less {fixed_ms:.0f} ms and "
                f"{prompt_tokens} other tokens, at {prefill_tokens_per_s:.0f} tokens/s of prefill"
            ),
        )
    if room <= own:
        return Budget(tokens=room, reason=f"the model's context has room for {room} more tokens")
    return Budget(tokens=own, reason=f"at most {own} tokens of passages are wanted")


def _check(holds: bool, name: str, value: float) -> None:
    if not holds:
        raise InvalidRequest(f"{name} is out of range: {value}", field=name)
