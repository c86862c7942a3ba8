"""The measured prefill speed: a mean of the last tokens."""

from __future__ import annotations

import pytest

from hola_verifier.speed import FEWEST_TOKENS, REMEMBERED_TOKENS, PrefillSpeed, measured
from tests.support.verifier import WatchedEngine


def test_nothing_measured_is_zero():
    assert PrefillSpeed().ns_per_token == 0


def test_it_is_the_mean_per_token():
    speed = PrefillSpeed()
    speed.observe(100, 1000)
    speed.observe(300, 1000)
    assert speed.ns_per_token == pytest.approx(5)


def test_short_prompts_say_nothing():
    speed = PrefillSpeed(7.0)
    speed.observe(FEWEST_TOKENS - 1, 10**9)
    speed.observe(100, 0)
    assert speed.ns_per_token == 7


def test_what_is_long_ago_is_forgotten():
    speed = PrefillSpeed(1000.0)
    for _ in range(3):
        speed.observe(REMEMBERED_TOKENS, REMEMBERED_TOKENS * 10)
    assert speed.ns_per_token == pytest.approx(10)


def test_an_engine_is_timed_and_left_as_it_was():
    engine = WatchedEngine()
    assert measured(engine) > 0
    assert engine.opened_sessions == engine.closed_sessions == 1
