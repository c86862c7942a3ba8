"""A tier's short greedy answer to a question, with how unsure it was: the gate's dearest signal.

Nothing of it is wasted where retrieval turns out not to be needed: it is the draft of the answer.
Runs on the engine's worker thread, like every pass.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from hola.errors import EmptyPrompt
from hola.ports import Engine
from hola.retrieval.gate.head import LARGEST_MISFIT, OutputHead
from hola.retrieval.gate.uncertainty import draft_signals

DEFAULT_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A greedy answer without its end token, and its `u_*` signals.

    An answer that ends at once has no token; its signals are then those of the end token.
    """

    tokens: tuple[int, ...]
    signals: dict[str, float]


def draft_answer(
    engine: Engine,
    prompt: Sequence[int],
    *,
    head: OutputHead | None = None,
    max_tokens: int = DEFAULT_TOKENS,
) -> Draft:
    """Answer greedily in at most `max_tokens` tokens, fewer where the context ends.

    With `head`, signals include the gradients; it is left out where the logits are not its own.
    Raises EmptyPrompt, PromptTooLong, EngineFailure, MemoryBudgetExceeded.
    """
    if not prompt:
        raise EmptyPrompt("a draft needs a prompt of at least one token", field="prompt")
    info = engine.info
    capacity = min(len(prompt) + max_tokens, info.context_length)
    session = engine.open(max(capacity, len(prompt)))
    try:
        session.prefill(prompt[:-1])
        rows = [session.forward(prompt[-1:])[-1].copy()]
        chosen = [int(rows[0].argmax())]
        while chosen[-1] not in info.eos_token_ids and session.length < capacity:
            if len(chosen) == max_tokens:
                break
            rows.append(session.forward(chosen[-1:])[-1].copy())
            chosen.append(int(rows[-1].argmax()))
    finally:
        session.close()
    if len(chosen) > 1 and chosen[-1] in info.eos_token_ids:
        del chosen[-1], rows[-1]
    logits = np.array(rows, np.float64)
    if head is not None and not _belongs(head, logits):
        head = None
    tokens = () if chosen[0] in info.eos_token_ids else tuple(chosen)
    return Draft(tokens=tokens, signals=draft_signals(logits, chosen, head))


def check_answer(
    engine: Engine,
    prompt: Sequence[int],
    answer: Sequence[int],
    *,
    head: OutputHead | None = None,
) -> dict[str, float]:
    """What another model, usually the target, thinks of a drafted answer: its `c_*` signals.

    One pass over prompt and answer, as verification takes anyway. `c_agrees` is the share of
    tokens that this model would have written itself. None of them for an empty answer.
    Raises EmptyPrompt, PromptTooLong, EngineFailure, MemoryBudgetExceeded.
    """
    steps = check_in_steps(engine, prompt, answer, head=head, chunk=max(len(prompt), 1))
    while True:
        try:
            next(steps)
        except StopIteration as done:
            signals: dict[str, float] = done.value
            return signals


def check_in_steps(
    engine: Engine,
    prompt: Sequence[int],
    answer: Sequence[int],
    *,
    chunk: int,
    head: OutputHead | None = None,
) -> Generator[None, None, dict[str, float]]:
    """`check_answer`, stopping after each `chunk` tokens of the prompt so that others get a turn.

    Closing it frees the cache. Raises as `check_answer`, at the first step or a later one.
    """
    if not prompt:
        raise EmptyPrompt("a check needs a prompt of at least one token", field="prompt")
    if not answer:
        return {}
    session = engine.open(len(prompt) + len(answer))
    try:
        for start in range(0, len(prompt) - 1, chunk):
            session.prefill(prompt[start : min(start + chunk, len(prompt) - 1)])
            yield
        rows = session.forward([prompt[-1], *answer[:-1]])
        logits = np.array(rows, np.float64)
    finally:
        session.close()
    if head is not None and not _belongs(head, logits):
        head = None
    agrees = float((logits.argmax(axis=1) == np.array(answer)).mean())
    return {**draft_signals(logits, answer, head, prefix="c"), "c_agrees": agrees}


def _belongs(head: OutputHead, logits: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> bool:
    return logits.shape[1] == len(head.weight) and head.misfit(logits) <= LARGEST_MISFIT
