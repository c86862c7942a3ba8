"""The decision: expected gain of each depth against the milliseconds it costs here."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

from hola.errors import InvalidRequest

DEFAULT_ANSWER_WORTH_MS = 20_000.0
DEEP_BELOW_COVERAGE = 0.5
# An expected gain above it is decided: asking the target about the draft as well would cost a pass
# and hardly ever change the decision (docs/GATE.md).
SURE_GAIN = 0.88


class Depth(enum.StrEnum):
    """How much retrieval a question gets."""

    NONE = "none"
    LIGHT = "light"
    DEEP = "deep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What retrieval takes on this device, measured: search and prefill of what is kept.

    Prefill is `*_tokens` prompt tokens at `prefill_ms_per_token`; searches take `*_search_ms`.
    """

    prefill_ms_per_token: float
    light_tokens: int
    deep_tokens: int
    light_search_ms: float = 0.0
    deep_search_ms: float = 0.0

    def __post_init__(self) -> None:
        """Raises InvalidRequest for a cost that is negative or not finite."""
        for name in self.__slots__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidRequest(f"{name} must be finite and >= 0, got {value}", field=name)

    def ms(self, depth: Depth) -> float:
        """Milliseconds that `depth` adds to the answer's wait."""
        if depth is Depth.NONE:
            return 0.0
        if depth is Depth.LIGHT:
            return self.light_search_ms + self.light_tokens * self.prefill_ms_per_token
        return self.deep_search_ms + self.deep_tokens * self.prefill_ms_per_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a gate expects of one depth.

    `gain` is the expected change of the answer's score (right is 1, wrong 0), from -1 to 1;
    `helps` the probability that it rises.
    """

    gain: float
    helps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A depth with its reasons in words, most important first.

    `nets` is, for each depth that was weighed, expected gain minus cost in units of right answers.
    """

    depth: Depth
    reasons: tuple[str, ...]
    nets: Mapping[Depth, float]


def decide(
    estimates: Mapping[Depth, Estimate],
    costs: Costs,
    *,
    answer_worth_ms: float = DEFAULT_ANSWER_WORTH_MS,
    coverage: float = math.nan,
) -> Decision:
    """The depth of largest net value; NONE, of net 0, wins ties.

    `answer_worth_ms` is how long a user would wait for one more right answer. Where the gate knows
    nothing of DEEP, LIGHT becomes DEEP when the best passage of a first search has less than half
    of the question's words: `coverage`, from 0 to 1, NaN where nothing was searched.
    Raises InvalidRequest for a worth that is not positive.
    """
    if not answer_worth_ms > 0:
        raise InvalidRequest(
            f"answer_worth_ms must be positive, got {answer_worth_ms}", field="answer_worth_ms"
        )
    nets = {Depth.NONE: 0.0}
    for depth in (Depth.LIGHT, Depth.DEEP):
        if depth in estimates:
            nets[depth] = estimates[depth].gain - costs.ms(depth) / answer_worth_ms
    best = max(nets, key=lambda depth: nets[depth])
    reasons = [_weighed(depth, estimates[depth], costs, answer_worth_ms) for depth in estimates]
    if best is Depth.NONE:
        reasons.insert(0, "no search is expected to be worth its time")
        return Decision(depth=best, reasons=tuple(reasons), nets=nets)
    reasons.insert(0, f"{best} search has the largest net value, {nets[best]:+.3f}")
    if best is Depth.LIGHT and Depth.DEEP not in estimates and coverage < DEEP_BELOW_COVERAGE:
        best = Depth.DEEP
        reasons.insert(
            0, f"the best passage has only {coverage:.0%} of the question's words: search deeper"
        )
    return Decision(depth=best, reasons=tuple(reasons), nets=nets)


def _weighed(depth: Depth, estimate: Estimate, costs: Costs, worth_ms: float) -> str:
    """One depth's account in words."""
    ms = costs.ms(depth)
    return (
        f"{depth}: expected gain {estimate.gain:+.3f} (helps with probability "
        f"{estimate.helps:.2f}), {ms:.0f} ms of search and prefill cost {ms / worth_ms:.3f}"
    )
