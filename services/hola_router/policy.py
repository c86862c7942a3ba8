"""Decides how much to retrieve for a request: frozen facts to a frozen decision, no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hola.retrieval.gate.policy import DEFAULT_ANSWER_WORTH_MS, Costs, Depth, Estimate, decide
from hola.types import DepthWeight, RetrievalMode, RetrievalPlan

# What passages may take where nobody has measured how fast the target reads.
UNMEASURED_BUDGET_TOKENS = 512
# Where no gate was fitted: a best passage with fewer of the question's words is not about it.
UNGATED_COVERAGE = 0.5
_MARGIN_TOKENS = 2

PLAN_OF = {
    Depth.NONE: RetrievalPlan.NONE,
    Depth.LIGHT: RetrievalPlan.LIGHT,
    Depth.DEEP: RetrievalPlan.DEEP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What bounds the passages: the request's wishes, the context, and how fast the target reads.

    `max_passage_tokens` 0 is no wish, `prefill_ms_per_token` 0 not measured. `prompt_tokens` is
    the prompt without passages, `max_tokens` the longest answer asked for.
    """

    context_length: int
    prompt_tokens: int
    max_tokens: int
    latency_target_ms: float
    max_passage_tokens: int = 0
    prefill_ms_per_token: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Most prompt tokens for passages, and what set the limit, in words."""

    tokens: int
    reason: str


def budget_of(room: Room) -> Budget:
    """The smallest of: the wish, what is read within the latency target, what the context leaves.

    An answer is given at most half of the context: a request that asks for a longest answer as
    long as the context still gets passages.
    """
    answer = min(room.max_tokens, room.context_length // 2)
    left = room.context_length - room.prompt_tokens - answer - _MARGIN_TOKENS
    bounds = [(max(0, left), "what prompt and answer leave of the context")]
    if room.prefill_ms_per_token > 0:
        readable = int(room.latency_target_ms / room.prefill_ms_per_token)
        said = (
            f"{room.latency_target_ms:.0f} ms at {room.prefill_ms_per_token:.2f} ms of prefill"
            " per token"
        )
        bounds.append((readable, said))
    else:
        bounds.append((UNMEASURED_BUDGET_TOKENS, "the target's prefill speed is not measured"))
    if room.max_passage_tokens:
        bounds.append((room.max_passage_tokens, "the request's max_passage_tokens"))
    tokens, reason = min(bounds)
    return Budget(tokens=tokens, reason=f"at most {tokens} tokens of passages: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalFacts:
    """What the decision may look at.

    `hits` passages were found by the first search, the best of which has `coverage` (0 to 1) of
    the question's words; `may_miss`: another search may find what that one did not. `estimates`
    are the gate's, None where there is none.
    """

    mode: RetrievalMode
    hits: int = 0
    coverage: float = math.nan
    may_miss: bool = False
    estimates: Mapping[Depth, Estimate] | None = None
    costs: Costs | None = None
    answer_worth_ms: float = DEFAULT_ANSWER_WORTH_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalDecision:
    """How much to retrieve, why in words (most important first), and what was weighed."""

    depth: RetrievalPlan
    reasons: tuple[str, ...]
    weights: tuple[DepthWeight, ...] = ()


def plan_retrieval(facts: RetrievalFacts) -> RetrievalDecision:
    """Decide for one request. Raises InvalidRequest for a worth that is not positive."""
    match facts.mode:
        case RetrievalMode.OFF:
            return _plainly(RetrievalPlan.NONE, "retrieval is off")
        case RetrievalMode.LIGHT:
            return _plainly(RetrievalPlan.LIGHT, "light retrieval was asked for")
        case RetrievalMode.DEEP:
            return _plainly(RetrievalPlan.DEEP, "deep retrieval was asked for")
    if facts.hits == 0 and not facts.may_miss:
        return _plainly(RetrievalPlan.NONE, "no passage has a word of the question")
    if facts.estimates is None or facts.costs is None:
        return _ungated(facts)
    return _weighed(facts.estimates, facts.costs, facts)


def _plainly(depth: RetrievalPlan, reason: str) -> RetrievalDecision:
    return RetrievalDecision(depth=depth, reasons=(reason,))


def _ungated(facts: RetrievalFacts) -> RetrievalDecision:
    """Without a gate nobody knows what the model knows; a passage about the question is taken."""
    told = "the model has no gate (`hola gate fit`)"
    if facts.coverage >= UNGATED_COVERAGE or math.isnan(facts.coverage):
        return _plainly(
            RetrievalPlan.LIGHT, f"{told}, and the best passage has most of the question's words"
        )
    return _plainly(
        RetrievalPlan.NONE,
        f"{told}, and the best passage has only {facts.coverage:.0%} of the question's words",
    )


def _weighed(
    estimates: Mapping[Depth, Estimate], costs: Costs, facts: RetrievalFacts
) -> RetrievalDecision:
    decided = decide(
        estimates, costs, answer_worth_ms=facts.answer_worth_ms, coverage=facts.coverage
    )
    weights = tuple(
        DepthWeight(
            depth=PLAN_OF[depth],
            gain=estimate.gain,
            helps=estimate.helps,
            cost_ms=costs.ms(depth),
            net=decided.nets.get(depth, 0.0),
        )
        for depth, estimate in estimates.items()
    )
    return RetrievalDecision(depth=PLAN_OF[decided.depth], reasons=decided.reasons, weights=weights)
