"""The budget: what latency, prefill speed, the model's context and the request allow."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from hola.errors import InvalidRequest
from hola.retrieval.context.budget import token_budget


def test_time_limits():
    found = token_budget(
        prefill_tokens_per_s=300, latency_target_ms=1500, fixed_ms=100, prompt_tokens=40
    )
    assert found.tokens == 380
    assert "300 tokens/s" in found.reason


def test_the_models_context_and_the_request_limit():
    fast = {"prefill_tokens_per_s": 1e6, "latency_target_ms": 1000.0}
    assert token_budget(**fast, room_tokens=100, max_tokens=200).tokens == 100
    assert token_budget(**fast, room_tokens=300, max_tokens=200).tokens == 200
    assert token_budget(prefill_tokens_per_s=1, room_tokens=50).tokens == 50


def test_nothing_where_the_target_has_passed():
    assert token_budget(prefill_tokens_per_s=300, latency_target_ms=50, fixed_ms=80).tokens == 0
    assert token_budget(prefill_tokens_per_s=300, room_tokens=-5).tokens == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"prefill_tokens_per_s": 0.0},
        {"prefill_tokens_per_s": math.nan},
        {"prefill_tokens_per_s": 1.0, "latency_target_ms": -1.0},
        {"prefill_tokens_per_s": 1.0, "latency_target_ms": math.nan},
        {"prefill_tokens_per_s": 1.0, "fixed_ms": math.inf},
        {"prefill_tokens_per_s": 1.0, "prompt_tokens": -1},
    ],
)
def test_what_is_no_measurement_is_refused(bad: dict[str, float]):
    with pytest.raises(InvalidRequest, match="out of range"):
        token_budget(**bad)  # type: ignore[arg-type]


@given(st.floats(0.1, 1e5), st.floats(0, 1e5), st.floats(0, 1e4), st.integers(0, 1000))
def test_the_target_is_kept(speed: float, target_ms: float, fixed_ms: float, prompt: int):
    found = token_budget(
        prefill_tokens_per_s=speed,
        latency_target_ms=target_ms,
        fixed_ms=fixed_ms,
        prompt_tokens=prompt,
    )
    assert found.tokens >= 0
    if found.tokens:
        assert fixed_ms + (prompt + found.tokens) / speed * 1e3 <= target_ms * (1 + 1e-9) + 1e-6
