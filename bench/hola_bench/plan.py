"""One way of decoding: which tiers guess, how many tokens at a time, on how many threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from hola.ports import Proposer
from hola.speculation.pacing import Pacing
from hola.types import Mode
from hola_bench.cases import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way of decoding.

    `ladder` names tiers; `proposer`, if given, takes their place. Lengths of blocks: `pacing` for
    each case, else `draft_tokens`, else adaptive. `threads` is per engine, `together` the number
    of sessions that run at the same time on one verifier.
    """

    name: str
    ladder: tuple[str, ...] = ()
    draft_tokens: int | None = None
    pacing: Callable[[Case], Pacing] | None = None
    proposer: Callable[[Case, int], Proposer] | None = None
    threads: int = 1
    together: int = 1
    mode: Mode = Mode.EXACT


def ladder_name(tiers: Sequence[str]) -> str:
    """`lookup+draft`, or `none`."""
    return "+".join(tiers) or "none"


def every_ladder(tiers: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All subsets of the tiers in their order, the empty one first."""
    for size in range(len(tiers) + 1):
        yield from combinations(tiers, size)
