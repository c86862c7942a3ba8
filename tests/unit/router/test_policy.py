"""How much is retrieved, and how many tokens it may take: decisions on given facts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hola.errors import InvalidRequest
from hola.retrieval.gate.policy import Costs, Depth, Estimate
from hola.types import RetrievalMode, RetrievalPlan
from hola_router.policy import (
    UNMEASURED_BUDGET_TOKENS,
    RetrievalFacts,
    Room,
    budget_of,
    plan_retrieval,
)

ROOM = Room(context_length=4096, prompt_tokens=20, max_tokens=256, latency_target_ms=1000)
COSTS = Costs(prefill_ms_per_token=2.0, light_tokens=100, deep_tokens=200)
HELPS = {Depth.LIGHT: Estimate(gain=0.9, helps=0.9)}
FACTS = RetrievalFacts(mode=RetrievalMode.AUTO, hits=3, coverage=0.8, estimates=HELPS, costs=COSTS)


def test_a_measured_speed_sets_the_budget():
    budget = budget_of(replace(ROOM, prefill_ms_per_token=2.5))
    assert budget.tokens == 400
    assert "1000 ms at 2.50 ms" in budget.reason


def test_an_unmeasured_speed_gives_a_usual_budget_and_says_so():
    budget = budget_of(ROOM)
    assert budget.tokens == UNMEASURED_BUDGET_TOKENS
    assert "not measured" in budget.reason


def test_the_requests_own_limit_counts():
    budget = budget_of(replace(ROOM, prefill_ms_per_token=2.5, max_passage_tokens=7))
    assert budget.tokens == 7
    assert "max_passage_tokens" in budget.reason


@pytest.mark.parametrize(
    ("prompt", "answer", "tokens"),
    [(20, 64, 512 - 20 - 64 - 2), (20, 5000, 512 - 20 - 256 - 2), (300, 256, 0), (600, 10, 0)],
)
def test_prompt_and_answer_keep_their_room(prompt, answer, tokens):
    room = replace(ROOM, context_length=512, prompt_tokens=prompt, max_tokens=answer)
    assert budget_of(replace(room, prefill_ms_per_token=0.001)).tokens == tokens


@pytest.mark.parametrize(
    ("mode", "depth"),
    [
        (RetrievalMode.OFF, RetrievalPlan.NONE),
        (RetrievalMode.LIGHT, RetrievalPlan.LIGHT),
        (RetrievalMode.DEEP, RetrievalPlan.DEEP),
    ],
)
def test_what_is_asked_for_is_not_weighed(mode, depth):
    decided = plan_retrieval(replace(FACTS, mode=mode, hits=0, estimates=None))
    assert (decided.depth, decided.weights) == (depth, ())


def test_nothing_found_retrieves_nothing():
    decided = plan_retrieval(replace(FACTS, hits=0))
    assert decided.depth is RetrievalPlan.NONE
    assert decided.reasons == ("no passage has a word of the question",)


def test_nothing_found_by_words_may_yet_be_found_by_meaning():
    decided = plan_retrieval(replace(FACTS, hits=0, coverage=math.nan, may_miss=True))
    assert decided.depth is RetrievalPlan.LIGHT


def test_a_gain_that_is_worth_its_time_retrieves_and_says_why():
    decided = plan_retrieval(FACTS)
    assert decided.depth is RetrievalPlan.LIGHT
    (weight,) = decided.weights
    assert (weight.gain, weight.cost_ms) == (0.9, 200.0)
    assert weight.net == pytest.approx(0.9 - 200 / 20_000)
    assert "largest net value" in decided.reasons[0]


def test_the_same_gain_is_not_worth_it_on_a_slow_device():
    little = {Depth.LIGHT: Estimate(gain=0.04, helps=0.04)}
    slow = replace(COSTS, prefill_ms_per_token=10.0)
    assert plan_retrieval(replace(FACTS, estimates=little)).depth is RetrievalPlan.LIGHT
    decided = plan_retrieval(replace(FACTS, estimates=little, costs=slow))
    assert decided.depth is RetrievalPlan.NONE
    assert "worth its time" in decided.reasons[0]


def test_it_depends_on_what_an_answer_is_worth():
    little = replace(FACTS, estimates={Depth.LIGHT: Estimate(gain=0.04, helps=0.04)})
    assert plan_retrieval(replace(little, answer_worth_ms=1000)).depth is RetrievalPlan.NONE
    with pytest.raises(InvalidRequest):
        plan_retrieval(replace(little, answer_worth_ms=0))


def test_a_passage_with_few_of_the_questions_words_is_searched_deeper():
    decided = plan_retrieval(replace(FACTS, coverage=0.2))
    assert decided.depth is RetrievalPlan.DEEP
    assert "20%" in decided.reasons[0]


@pytest.mark.parametrize(
    ("coverage", "depth"), [(0.7, RetrievalPlan.LIGHT), (0.3, RetrievalPlan.NONE)]
)
def test_without_a_gate_the_passages_decide(coverage, depth):
    decided = plan_retrieval(replace(FACTS, estimates=None, coverage=coverage))
    assert decided.depth is depth
    assert "hola gate fit" in decided.reasons[0]
