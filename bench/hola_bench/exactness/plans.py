"""The ways of decoding that must not change the output: ladders, lengths, drafters, threads."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

from hola.ports import Proposal
from hola.speculation.pacing import RoundReport
from hola.speculation.proposers import LOOKUP
from hola.types import Mode
from hola_bench.cases import Case
from hola_bench.plan import Plan, every_ladder, ladder_name

MOST_DRAFT_TOKENS = 12
TOGETHER = 8


class RandomPacing:
    """Draws every block's length; the draws depend on the case only, so a run can be replayed."""

    def __init__(self, case: Case, most: int = MOST_DRAFT_TOKENS) -> None:
        self._rng = random.Random(case.name)
        self._most = most

    def next_draft_tokens(self) -> int:
        """0 to `most`."""
        return self._rng.randint(0, self._most)

    def observe(self, report: RoundReport) -> None:
        """Nothing is learned."""


class RandomTokens:
    """A drafter that knows nothing: proposes random tokens, nearly all of them wrong."""

    tiers = ("random",)

    def __init__(self, case: Case, vocab_size: int) -> None:
        self._rng = random.Random(case.name)
        self._vocab_size = vocab_size

    def propose(self, prefix: Sequence[int], k: int) -> Proposal:
        """k random tokens, whatever the prefix."""
        tokens = tuple(self._rng.randrange(self._vocab_size) for _ in range(k))
        return Proposal(tokens=tokens, tiers=self.tiers * k, entropies=(0.0,) * k)

    def close(self) -> None:
        """Nothing to free."""


def plans(drafts: Sequence[str]) -> list[Plan]:
    """Everything that runs in this process over the `local:` verifier."""
    full = (LOOKUP, *drafts)
    found = [
        Plan(name=f"ladder={ladder_name(tiers)}", ladder=tiers) for tiers in every_ladder(full)
    ]
    found += [
        Plan(name=f"k={k}", ladder=full, draft_tokens=k) for k in range(1, MOST_DRAFT_TOKENS + 1)
    ]
    return [
        *found,
        Plan(name="k=random", ladder=full, pacing=RandomPacing),
        Plan(name="random-tokens", proposer=RandomTokens, pacing=RandomPacing),
        Plan(name="interleaved", ladder=full, pacing=RandomPacing, together=TOGETHER),
        Plan(name="threads=2", ladder=full, threads=2),
        Plan(name="threads=2-plain", threads=2),
    ]


def fault_plan(name: str, drafts: Sequence[str]) -> Plan:
    """What runs through a crash: short blocks, so that there are many rounds to be hit."""
    return Plan(name=name, ladder=(LOOKUP, *drafts), draft_tokens=2)


def gated(drafts: Sequence[str]) -> Plan:
    """The paper's rule, which is not exact."""
    return Plan(name="gated", ladder=(LOOKUP, *drafts), mode=Mode.GATED)


def draw(case: Case, least: int, most: int) -> int:
    """A number that depends on the case only."""
    return least + zlib.crc32(case.name.encode()) % (most - least + 1)
