"""How fast the target reads a prompt here: engine time per token, of what it has read lately."""

from __future__ import annotations

import time

from hola.ports import Engine

# Shorter prompts say more about the overhead of a pass than about its tokens.
FEWEST_TOKENS = 16
REMEMBERED_TOKENS = 8192
_PROBE_TOKENS = 64


class PrefillSpeed:
    """A running mean over about the last REMEMBERED_TOKENS tokens."""

    def __init__(self, ns_per_token: float = 0.0) -> None:
        """`ns_per_token`: measured before; 0: not at all."""
        self._tokens = float(_PROBE_TOKENS) if ns_per_token > 0 else 0.0
        self._ns = self._tokens * ns_per_token

    @property
    def ns_per_token(self) -> float:
        """Nanoseconds; 0 where nothing has been measured."""
        return self._ns / self._tokens if self._tokens else 0.0

    def observe(self, tokens: int, compute_ns: int) -> None:
        """A prefill took so long; one of few tokens is passed over."""
        if tokens < FEWEST_TOKENS or compute_ns <= 0:
            return
        kept = max(0.0, min(1.0, (REMEMBERED_TOKENS - tokens) / max(self._tokens, 1.0)))
        self._tokens = self._tokens * kept + tokens
        self._ns = self._ns * kept + compute_ns


def measured(engine: Engine) -> float:
    """Nanoseconds per token of one prefill, after the probe has warmed the engine up.

    0 for a context too short to say. Raises what the engine raises.
    """
    tokens = min(_PROBE_TOKENS, engine.info.context_length)
    if tokens < FEWEST_TOKENS:
        return 0.0
    session = engine.open(tokens)
    try:
        began_ns = time.perf_counter_ns()
        session.prefill([index % engine.info.vocab_size for index in range(tokens)])
        return (time.perf_counter_ns() - began_ns) / tokens
    finally:
        session.close()
