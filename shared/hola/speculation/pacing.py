"""How many tokens to draft next: the k with the best predicted tokens per second, 0 included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """What one verified block cost and brought; times in nanoseconds.

    `asked` draft tokens were wanted, `drafted` were sent, `accepted` of them accepted.
    `draft_ns` is the time of the proposal, `verify_ns` the target's forward pass, `overhead_ns`
    the rest of the round trip (wire and waiting).
    """

    asked: int
    drafted: int
    accepted: int
    draft_ns: int
    verify_ns: int
    overhead_ns: int


class Pacing(Protocol):
    """Decides the length of the next block; may be shared by the requests of one drafter."""

    def next_draft_tokens(self) -> int:
        """Most draft tokens of the next block, 0 to 64."""
        ...

    def observe(self, report: RoundReport) -> None:
        """Learn from a finished round."""
        ...


@dataclass(frozen=True, slots=True)
class FixedPacing:
    """Always the same length."""

    draft_tokens: int

    def next_draft_tokens(self) -> int:
        """The fixed length."""
        return self.draft_tokens

    def observe(self, report: RoundReport) -> None:
        """Nothing to learn."""


class AdaptivePacing:
    """Learns acceptance and costs online and picks the length that `decide` predicts is best.

    Starts optimistic with `start` tokens; afterwards any length from 0 to `most`.
    """

    def __init__(self, *, start: int = 5, most: int = 15) -> None:
        raise NotImplementedError

    def next_draft_tokens(self) -> int:
        """Most draft tokens of the next block."""
        raise NotImplementedError

    def observe(self, report: RoundReport) -> None:
        """Learn from a finished round."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class EntropyGate:
    """The paper's gate g = 1[H < tau]: says when drafting stops and the block is sent."""

    threshold_nats: float

    def confident(self, entropy_nats: float) -> bool:
        """Whether a draft token of this entropy may be sent (EXACT) or committed (GATED)."""
        return entropy_nats < self.threshold_nats
