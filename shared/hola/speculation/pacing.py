"""How many tokens to draft next: the k with the best predicted tokens per second, 0 included."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Protocol

START_DRAFT_TOKENS = 5
MOST_DRAFT_TOKENS = 15

_HYSTERESIS = 1.05
_ROUNDS_BEFORE_GIVING_UP = 4
_LEAST_ROUNDS_BEFORE_PROBE = 8
_MOST_ROUNDS_BEFORE_PROBE = 64
_EXPECTED_ACCEPTANCE = 0.8
_WEIGHT_OF_EXPECTATION = 4.0
_MEMORY = 0.97
_FALLING_RATE = 0.5
_RISING_RATE = 0.1
_MOST_SURPRISE = 2.0


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


@dataclass(frozen=True, slots=True)
class EntropyGate:
    """The paper's gate g = 1[H < tau]: says when drafting stops and the block is sent."""

    threshold_nats: float

    def confident(self, entropy_nats: float) -> bool:
        """Whether a draft token of this entropy may be sent (EXACT) or committed (GATED)."""
        return entropy_nats < self.threshold_nats


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What `decide` needs to know; times in nanoseconds.

    `verify_ns` has (even width, time of the target's pass), ascending, at least one entry.
    `drafted[i]` is the probability that token i is drafted (the gate may stop before it) given
    that i - 1 was; `accepted[i]` that it is drafted and accepted given that i - 1 was.
    """

    draft_step_ns: float
    overhead_ns: float
    verify_ns: tuple[tuple[int, float], ...]
    drafted: tuple[float, ...]
    accepted: tuple[float, ...]


def predicted_rates(measured: Measured) -> tuple[float, ...]:
    """Expected output tokens per nanosecond for every k from 0 to len(measured.drafted).

    Tokens: 1 + the probabilities that 1, 2, ... k tokens survive. Time: the round trip's overhead,
    a draft step for every token that is tried, and the target's pass at the even width of what
    was drafted (goodput as in Leviathan et al., arXiv 2211.17192, with measured costs).
    """
    tokens, steps = 1.0, 0.0
    reached, survived = 1.0, 1.0
    cost_ns = verify_cost(measured.verify_ns, 1)
    pass_ns = cost_ns
    rates = [tokens / max(1.0, measured.overhead_ns + pass_ns)]
    for k, (drafted, accepted) in enumerate(
        zip(measured.drafted, measured.accepted, strict=True), start=1
    ):
        steps += reached
        reached *= drafted
        survived *= accepted
        tokens += survived
        if k % 2 == 0:
            # k + 1 tokens need the next even width; an odd k fits into the one before.
            wider_ns = verify_cost(measured.verify_ns, k + 1)
            pass_ns += reached * (wider_ns - cost_ns)
            cost_ns = wider_ns
        spent_ns = measured.overhead_ns + pass_ns + steps * measured.draft_step_ns
        rates.append(tokens / max(1.0, spent_ns))
    return tuple(rates)


def decide(measured: Measured, current: int) -> int:
    """The draft length with the best predicted rate.

    Stays at `current` unless another is better by 5 % or plain decoding is better at all; among
    equals prefers an even width (k + 1), then the shorter.
    """
    rates = predicted_rates(measured)
    best = max(range(len(rates)), key=lambda k: (rates[k], k % 2, -k))
    if current < len(rates) and rates[current] >= max(rates[0], rates[best] / _HYSTERESIS):
        return current
    return best


def verify_cost(measured_ns: tuple[tuple[int, float], ...], tokens: int) -> float:
    """Time of the target's pass over `tokens` tokens, padded to an even width of at least 2.

    Linear between measured widths; outside them the nearest is scaled by the shape measured on
    CPUs for 0.4 B parameters, where a pass of width 8 takes about 2.2 times one of width 2.
    """
    width = max(2, tokens + tokens % 2)
    if not measured_ns:
        return _typical_shape(width)
    above = bisect_left(measured_ns, (width, 0.0))
    if 0 < above < len(measured_ns):
        (low, low_ns), (high, high_ns) = measured_ns[above - 1], measured_ns[above]
        return low_ns + (width - low) / (high - low) * (high_ns - low_ns)
    nearest, nearest_ns = measured_ns[min(above, len(measured_ns) - 1)]
    return nearest_ns * _typical_shape(width) / _typical_shape(nearest)


def _typical_shape(width: int) -> float:
    return 0.6 + 0.2 * width


class AdaptivePacing:
    """Learns acceptance and costs online and picks the length that `decide` predicts is best.

    Starts optimistic with `start` tokens; afterwards any length from 0 to `most`. Plain decoding
    takes four rounds of evidence. While it is best, one draft token (which leaves the target's
    width at 2) is tried after 8, 16, 32 and then every 64 rounds, so that a change for the better
    is noticed.
    """

    def __init__(self, *, start: int = START_DRAFT_TOKENS, most: int = MOST_DRAFT_TOKENS) -> None:
        self._current = min(start, most)
        self._draft_step = _Cost()
        self._overhead = _Cost()
        self._verify: dict[int, _Cost] = {}
        self._drafted = _Chances(most)
        self._accepted = _Chances(most)
        self._plain_rounds = 0
        self._probe_after = _LEAST_ROUNDS_BEFORE_PROBE

    def next_draft_tokens(self) -> int:
        """Most draft tokens of the next block."""
        measured = self.measured()
        if measured is None:
            return self._current
        self._current = decide(measured, self._current)
        if self._current > 0:
            self._probe_after = _LEAST_ROUNDS_BEFORE_PROBE
            return self._current
        early = self._draft_step.count < _ROUNDS_BEFORE_GIVING_UP
        return 1 if early or self._plain_rounds >= self._probe_after else 0

    def observe(self, report: RoundReport) -> None:
        """Learn from a finished round."""
        self._observe_pass(report.drafted + 1, report.verify_ns)
        self._overhead.add(report.overhead_ns)
        if not report.asked:
            self._plain_rounds += 1
        else:
            if self._plain_rounds >= self._probe_after:
                self._probe_after = min(2 * self._probe_after, _MOST_ROUNDS_BEFORE_PROBE)
            self._plain_rounds = 0
            # A gate that stopped drafting cost a step without a token.
            steps = report.drafted + (report.drafted < report.asked)
            self._draft_step.add(report.draft_ns / steps)
            self._drafted.add(report.drafted, report.asked)
            self._accepted.add(report.accepted, report.asked)

    def _observe_pass(self, tokens: int, verify_ns: float) -> None:
        """A width seen for the first time is not believed to be far off what others predict.

        Else one disturbed pass would keep pacing away from its width for good.
        """
        width = max(2, tokens + tokens % 2)
        if width not in self._verify:
            if known := self._passes():
                verify_ns = min(verify_ns, _MOST_SURPRISE * verify_cost(known, tokens))
            self._verify[width] = _Cost()
        self._verify[width].add(verify_ns)

    def _passes(self) -> tuple[tuple[int, float], ...]:
        return tuple((width, cost.value) for width, cost in sorted(self._verify.items()))

    def measured(self) -> Measured | None:
        """What has been learned; None before the first round with drafts."""
        if self._draft_step.count == 0:
            return None
        return Measured(
            draft_step_ns=self._draft_step.value,
            overhead_ns=self._overhead.value,
            verify_ns=self._passes(),
            drafted=self._drafted.estimates(),
            accepted=self._accepted.estimates(),
        )


class _Cost:
    """Follows a time downwards fast and upwards slowly.

    Times are noisy in one direction only: a busy machine makes one step take ten times as long,
    and the first step of a session pays for set-up. Neither says what the next one will cost.
    """

    def __init__(self) -> None:
        self.value = 0.0
        self.count = 0

    def add(self, sample: float) -> None:
        self.count += 1
        rate = _FALLING_RATE if sample < self.value else _RISING_RATE
        self.value += (rate if self.count > 1 else 1.0) * (sample - self.value)


class _Chances:
    """Per draft position, the chance to get past it, given that it was reached.

    Positions seldom reached lean on the average of all, and that on an optimistic expectation.
    """

    def __init__(self, positions: int) -> None:
        self._passed = [0.0] * positions
        self._reached = [0.0] * positions

    def add(self, passed: int, asked: int) -> None:
        """Of `asked` positions, the first `passed` were passed; the next was reached in vain."""
        for at in range(min(passed + 1, asked, len(self._passed))):
            self._passed[at] = _MEMORY * self._passed[at] + (at < passed)
            self._reached[at] = _MEMORY * self._reached[at] + 1

    def estimates(self) -> tuple[float, ...]:
        expected = _EXPECTED_ACCEPTANCE * _WEIGHT_OF_EXPECTATION
        average = (sum(self._passed) + expected) / (sum(self._reached) + _WEIGHT_OF_EXPECTATION)
        return tuple(
            (passed + average * _WEIGHT_OF_EXPECTATION) / (reached + _WEIGHT_OF_EXPECTATION)
            for passed, reached in zip(self._passed, self._reached, strict=True)
        )
