"""Decides how much to retrieve for a request: frozen facts to a frozen decision, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from hola.types import RetrievalPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """What the decision may look at: the family asked for and the question as text."""

    model: str
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalDecision:
    """How much to retrieve, and why, in words for a log line."""

    plan: RetrievalPlan
    reason: str


def plan_retrieval(facts: RequestFacts) -> RetrievalDecision:
    """Decide for one request. No family has a passage index yet, so nothing is retrieved."""
    return RetrievalDecision(plan=RetrievalPlan.NONE, reason=f"{facts.model} has no passage index")
