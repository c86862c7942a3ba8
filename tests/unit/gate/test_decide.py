"""The decision weighs expected gain against measured milliseconds, and says why."""

from __future__ import annotations

import math

import pytest

from hola.errors import InvalidRequest
from hola.retrieval.gate.policy import Costs, Depth, Estimate, decide

CHEAP = Costs(prefill_ms_per_token=0.1, light_tokens=300, deep_tokens=900)
DEAR = Costs(prefill_ms_per_token=10, light_tokens=300, deep_tokens=900, light_search_ms=5)


def light(gain: float) -> dict[Depth, Estimate]:
    return {Depth.LIGHT: Estimate(gain=gain, helps=max(gain, 0))}


def test_costs_are_search_and_prefill():
    assert DEAR.ms(Depth.NONE) == 0
    assert DEAR.ms(Depth.LIGHT) == 3005
    assert DEAR.ms(Depth.DEEP) == 9000


def test_the_same_gain_is_worth_it_on_a_fast_device_only():
    assert decide(light(0.1), CHEAP).depth is Depth.LIGHT
    assert decide(light(0.1), DEAR).depth is Depth.NONE


def test_patience_changes_the_decision():
    assert decide(light(0.1), DEAR, answer_worth_ms=60_000).depth is Depth.LIGHT


def test_a_gain_that_only_covers_its_cost_is_left():
    costs = Costs(prefill_ms_per_token=1, light_tokens=1000, deep_tokens=0)
    assert decide(light(0.5), costs, answer_worth_ms=2000).depth is Depth.NONE


def test_deep_is_taken_where_it_gains_more_than_it_costs_more():
    estimates = {**light(0.1), Depth.DEEP: Estimate(gain=0.5, helps=0.6)}
    assert decide(estimates, CHEAP).depth is Depth.DEEP
    estimates = {**light(0.1), Depth.DEEP: Estimate(gain=0.101, helps=0.2)}
    decision = decide(estimates, CHEAP)
    assert decision.depth is Depth.LIGHT
    assert decision.nets[Depth.LIGHT] == pytest.approx(0.1 - 30 / 20_000)


def test_poor_coverage_deepens_a_light_search_where_deep_was_never_judged():
    decision = decide(light(0.3), CHEAP, coverage=0.2)
    assert decision.depth is Depth.DEEP
    assert "20% of the question's words" in decision.reasons[0]
    assert decide(light(0.3), CHEAP, coverage=0.9).depth is Depth.LIGHT
    assert decide(light(0.3), CHEAP, coverage=math.nan).depth is Depth.LIGHT
    assert decide(light(-0.3), CHEAP, coverage=0.2).depth is Depth.NONE
    judged = {**light(0.3), Depth.DEEP: Estimate(gain=0.0, helps=0.0)}
    assert decide(judged, CHEAP, coverage=0.2).depth is Depth.LIGHT


def test_reasons_name_the_numbers():
    reasons = " ".join(decide(light(0.25), DEAR).reasons)
    assert "+0.250" in reasons
    assert "3005 ms" in reasons


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_impossible_costs_are_refused(value):
    with pytest.raises(InvalidRequest, match="prefill_ms_per_token"):
        Costs(prefill_ms_per_token=value, light_tokens=1, deep_tokens=1)


@pytest.mark.parametrize("worth", [0.0, -5.0, math.nan])
def test_an_answer_must_be_worth_something(worth):
    with pytest.raises(InvalidRequest, match="answer_worth_ms"):
        decide(light(0.1), CHEAP, answer_worth_ms=worth)
