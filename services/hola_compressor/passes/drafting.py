"""A model as a draft of another: accepted tokens per second, measured with the target itself.

Speculation as the services do it at temperature 0: `Cascade` lets the target check what the draft
proposes and add its own token; the text is the target's whatever the draft says.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

from hola.compression.report import DraftRow
from hola.engines.onnx import OnnxEngine
from hola.ports import Proposal, Proposer
from hola.speculation.proposers import Cascade, Tier
from hola.types import SamplingParams

LENGTHS = (2, 4, 6)
_TOKENS = 40
_RUNS, _LONG_S = 5, 20.0  # runs of everything, but no further one after so long
_GREEDY = SamplingParams(temperature=0.0)


def as_draft(
    artifact: Path, target: OnnxEngine, name: str, prompts: Sequence[Sequence[int]]
) -> DraftRow:
    """The artifact's best draft length for the target: acceptance, and tokens/s of both ways.

    Plain decoding and every length take turns on each prompt, and again where that takes little
    time: the median of a prompt's runs counts, so that one moment of another load does not. Ends of
    text are not honoured, so that every run writes as many tokens.
    """
    draft = OnnxEngine(artifact, threads=1)
    room = min(target.info.context_length, draft.info.context_length)
    starts = [list(prompt)[: room - _TOKENS - 1] for prompt in prompts]
    spent: dict[tuple[int, int], list[float]] = defaultdict(list)
    drafted, accepted = dict.fromkeys(LENGTHS, 0), dict.fromkeys(LENGTHS, 0)
    began = time.perf_counter()
    try:
        for run in range(_RUNS):
            for number, start in enumerate(starts):
                for length in (0, *LENGTHS):
                    seconds, tried, taken = _one(target, draft, start, length)
                    spent[length, number].append(seconds)
                    if length and not run:
                        drafted[length] += tried
                        accepted[length] += taken
            if time.perf_counter() - began > _LONG_S:
                break
    finally:
        draft.close()
    seconds_of = {
        length: sum(median(spent[length, number]) for number in range(len(starts)))
        for length in (0, *LENGTHS)
    }
    best = min(LENGTHS, key=lambda length: seconds_of[length])
    return DraftRow(
        target=name,
        acceptance=accepted[best] / max(1, drafted[best]),
        tokens_per_s=len(starts) * _TOKENS / seconds_of[best],
        plain_tokens_per_s=len(starts) * _TOKENS / seconds_of[0],
        draft_tokens=best,
    )


def _one(
    target: OnnxEngine, draft: OnnxEngine, prompt: list[int], length: int
) -> tuple[float, int, int]:
    """Seconds of decoding, tokens proposed, tokens of them accepted; 0 drafts is plain decoding."""
    capacity = len(prompt) + _TOKENS + 1
    with closing(_Counting(draft, capacity)) as lower:
        tier = Tier(name="target", session=target.open(capacity))
        ladder = Cascade(lower if length else None, tier, _GREEDY, guesses=max(1, length))
        with closing(ladder):
            ladder.propose(prompt, 0)
            began = time.perf_counter()
            ladder.propose(prompt, _TOKENS)
            seconds = time.perf_counter() - began
        return seconds, lower.proposed, lower.accepted


class _Counting:
    """The draft as the target's lower tier, counting what is proposed and what stays."""

    def __init__(self, engine: OnnxEngine, capacity: int) -> None:
        tier = Tier(name="draft", session=engine.open(capacity))
        self._inner: Proposer = Cascade(None, tier, _GREEDY)
        self._last: list[int] = []
        self._at = 0
        self.proposed = 0
        self.accepted = 0

    @property
    def tiers(self) -> tuple[str, ...]:
        """As the cascade's."""
        return self._inner.tiers

    def propose(self, prefix: Sequence[int], k: int) -> Proposal:
        """As the cascade's; the prefix tells what became of the guesses before."""
        taken = 0
        for guess, token in zip(self._last, list(prefix)[self._at :], strict=False):
            if guess != token:
                break
            taken += 1
        self.accepted += taken
        proposal = self._inner.propose(prefix, k)
        self._last, self._at = list(proposal.tokens), len(prefix)
        self.proposed += len(proposal.tokens)
        return proposal

    def close(self) -> None:
        """Free the cache."""
        self._inner.close()
