"""What a request did and where its time went: counts that add up, and parts equal to the total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hola.types import (
    Exactness,
    FinishReason,
    Opened,
    Outcome,
    Summary,
    TierCounts,
    Timings,
    TokenEvent,
    Verdict,
)

_OF_A_TIER = (Outcome.ACCEPTED, Outcome.UNVERIFIED)


@dataclass(slots=True, kw_only=True)
class Account:
    """Counts and nanoseconds of one request; `summary` closes it.

    `tiers` are Started.tiers, the target last; per tier, proposed >= accepted, and the accepted
    tokens of all tiers add up to the completion (the target's own tokens count as both).
    """

    tiers: Sequence[str]
    queue_ns: int = 0
    prefill_ns: int = 0
    draft_ns: int = 0
    verify_ns: int = 0
    verify_queue_ns: int = 0
    network_ns: int = 0
    rounds: int = 0
    reconnects: int = 0
    corrections: int = 0
    agreed: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    proposed: Counter[int] = field(default_factory=Counter)
    accepted: Counter[int] = field(default_factory=Counter)

    def tier_of(self, name: str) -> int:
        """Index of a tier; one that was never announced (another drafter's) is the target."""
        return self.tiers.index(name) if name in self.tiers else len(self.tiers) - 1

    def restore(self, events: Sequence[TokenEvent]) -> None:
        """Count tokens that an earlier drafter committed.

        What it proposed beyond a corrected token is not in the journal and stays uncounted.
        """
        for event in events:
            if event.outcome is Outcome.CORRECTED:
                self.proposed[self._index(event.tier)] += 1
            self.commit(event)
            if event.outcome is Outcome.ACCEPTED:
                self.proposed[self._index(event.tier)] += 1

    def open(self, opened: Opened, round_trip_ns: int) -> None:
        """A verifier session was opened."""
        compute_ns, queue_ns = _within(round_trip_ns, opened.prefill_ns, opened.queue_ns)
        self.prefill_ns += compute_ns
        self._wait(round_trip_ns, compute_ns, queue_ns)

    def judge(self, tiers: Sequence[int], verdict: Verdict, round_trip_ns: int) -> None:
        """A block was verified; `tiers` are its tokens' tiers, without tokens committed before."""
        self.rounds += 1
        self.agreed += verdict.agreed_tokens
        self.proposed.update(map(self._index, tiers))
        compute_ns, queue_ns = _within(round_trip_ns, verdict.compute_ns, verdict.queue_ns)
        self.verify_ns += compute_ns
        self._wait(round_trip_ns, compute_ns, queue_ns)

    def commit(self, event: TokenEvent) -> None:
        """A token became output."""
        self.outcomes[event.outcome] += 1
        of_a_tier = event.outcome in _OF_A_TIER
        tier = self._index(event.tier) if of_a_tier else len(self.tiers) - 1
        self.accepted[tier] += 1
        if event.outcome is not Outcome.ACCEPTED:
            self.proposed[tier] += 1

    def summary(
        self,
        reason: FinishReason,
        exactness: Exactness,
        *,
        prompt_tokens: int,
        wall_ns: int,
    ) -> Summary:
        """The closed account; `wall_ns` is the time since acceptance."""
        return Summary(
            finish_reason=reason,
            prompt_tokens=prompt_tokens,
            completion_tokens=self.outcomes.total(),
            accepted_tokens=self.outcomes[Outcome.ACCEPTED],
            corrected_tokens=self.outcomes[Outcome.CORRECTED],
            bonus_tokens=self.outcomes[Outcome.BONUS],
            plain_tokens=self.outcomes[Outcome.PLAIN],
            unverified_tokens=self.outcomes[Outcome.UNVERIFIED],
            rounds=self.rounds,
            tiers=tuple(
                TierCounts(
                    tier=name,
                    proposed_tokens=self.proposed[index],
                    accepted_tokens=self.accepted[index],
                )
                for index, name in enumerate(self.tiers)
            ),
            timings=self._timings(wall_ns),
            exactness=exactness,
            agreed_tokens=self.agreed,
            reconnects=self.reconnects,
            corrections=self.corrections,
        )

    def _timings(self, wall_ns: int) -> Timings:
        known_ns = (
            self.queue_ns
            + self.prefill_ns
            + self.draft_ns
            + self.verify_ns
            + self.verify_queue_ns
            + self.network_ns
        )
        # Parts timed by other clocks may exceed the wall time by their rounding.
        total_ns = max(wall_ns, known_ns)
        return Timings(
            queue_ns=self.queue_ns,
            prefill_ns=self.prefill_ns,
            draft_ns=self.draft_ns,
            verify_ns=self.verify_ns,
            verify_queue_ns=self.verify_queue_ns,
            network_ns=self.network_ns,
            other_ns=total_ns - known_ns,
            total_ns=total_ns,
        )

    def _wait(self, round_trip_ns: int, compute_ns: int, queue_ns: int) -> None:
        self.verify_queue_ns += queue_ns
        self.network_ns += round_trip_ns - compute_ns - queue_ns

    def _index(self, tier: int) -> int:
        """A journal's tier index that this account does not have counts for the target."""
        return min(tier, len(self.tiers) - 1)


def _within(round_trip_ns: int, compute_ns: int, queue_ns: int) -> tuple[int, int]:
    """The verifier's own times, cut so that they fit the round trip measured here."""
    compute_ns = min(compute_ns, round_trip_ns)
    return compute_ns, min(queue_ns, round_trip_ns - compute_ns)
