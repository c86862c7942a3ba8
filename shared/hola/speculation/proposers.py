"""The tier ladder: n-gram lookup, and engines that check the tier below and add their own token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hola.ports import EngineSession, Proposal, Proposer
from hola.types import SamplingParams

LOOKUP = "lookup"


class Lookup:
    """Proposes what followed the last occurrence of the longest n-gram that ends the prefix."""

    def __init__(self, *, longest: int = 4, shortest: int = 2) -> None:
        raise NotImplementedError

    @property
    def tiers(self) -> tuple[str, ...]:
        """("lookup",)"""
        return (LOOKUP,)

    def propose(self, prefix: Sequence[int], k: int) -> Proposal:
        """As `Proposer.propose`; entropies are infinite, since no engine looked."""
        raise NotImplementedError

    def close(self) -> None:
        """Forget the index. Idempotent."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One engine of a ladder: its name, its own KV cache, and the ids that end the text."""

    name: str
    session: EngineSession
    eos_token_ids: tuple[int, ...] = ()


class Cascade:
    """An engine that checks what `lower` proposes and adds its own token, until it has k."""

    def __init__(
        self,
        lower: Proposer | None,
        tier: Tier,
        params: SamplingParams,
        *,
        entropy_threshold: float = float("inf"),
        guesses: int = 7,
    ) -> None:
        raise NotImplementedError

    @property
    def tiers(self) -> tuple[str, ...]:
        """The lower tiers' names, then this engine's."""
        raise NotImplementedError

    def propose(self, prefix: Sequence[int], k: int) -> Proposal:
        """As `Proposer.propose`; k = 0 only prefills. Raises EngineFailure."""
        raise NotImplementedError

    def close(self) -> None:
        """Free this engine's cache and the lower tiers'. Idempotent."""
        raise NotImplementedError


def select_tiers(available: Sequence[str], ladder: Sequence[str] | None) -> tuple[str, ...]:
    """The tiers a request uses, in the order of `available`: those named, or all for None.

    `available` may include LOOKUP. Raises InvalidRequest naming an unknown tier.
    """
    raise NotImplementedError


def build_ladder(
    tiers: Sequence[Tier],
    params: SamplingParams,
    *,
    lookup: bool = True,
    entropy_threshold: float = float("inf"),
) -> Proposer | None:
    """Cascade(Cascade(Lookup(), tiers[0]), tiers[1])...; None when there is no tier at all.

    The ladder owns the tiers' engine sessions from now on (`close` frees them).
    """
    raise NotImplementedError
