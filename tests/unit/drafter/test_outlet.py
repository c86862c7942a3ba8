"""The way out for events: nothing behind the end, and every event counted once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hola.errors import Fenced
from hola.telemetry import Metrics
from hola.types import (
    Correction,
    Failure,
    FinishReason,
    Outcome,
    Summary,
    TierCounts,
    TokenEvent,
    Tokens,
)
from hola_drafter.outlet import Outlet
from tests.support.scripted_system import job

TOKENS = Tokens(
    position=0,
    tokens=(
        TokenEvent(token=1, text="a", tier=0, outcome=Outcome.ACCEPTED),
        TokenEvent(token=2, text="b", tier=1, outcome=Outcome.BONUS),
    ),
)
SUMMARY = Summary(
    finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=2, reconnects=3
)
FAILURE = Failure(reason="ENGINE_FAILURE", message="x", grpc_code=13)


def outlet(received):
    async def emit(event):
        received.append(event)

    metrics = Metrics()
    return Outlet(emit, metrics, job()), metrics


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_nothing_passes_behind_the_end():
    received = []
    out, metrics = outlet(received)
    for event in (TOKENS, SUMMARY, FAILURE, TOKENS):
        await out(event)
    assert received == [TOKENS, SUMMARY]
    assert value(metrics, "hola_requests_total", service="drafter", outcome="length") == 1
    assert value(metrics, "hola_requests_total", service="drafter", outcome="engine_failure") == 0


async def test_tokens_reconnects_and_the_first_token_are_counted():
    out, metrics = outlet([])
    for event in (TOKENS, TOKENS, Correction(position=3), SUMMARY):
        await out(event)
    assert value(metrics, "hola_corrections_total") == 1
    assert value(metrics, "hola_committed_tokens_total", outcome="accepted") == 2
    assert value(metrics, "hola_committed_tokens_total", outcome="bonus") == 2
    assert value(metrics, "hola_time_to_first_token_seconds_count", service="drafter") == 1
    assert value(metrics, "hola_reconnects_total") == 3


async def test_latencies_tiers_and_prompts_are_counted():
    tiers = (TierCounts(tier="draft", proposed_tokens=5, accepted_tokens=3),)
    out, metrics = outlet([])
    for event in (TOKENS, TOKENS, replace(SUMMARY, tiers=tiers, prompt_tokens=7)):
        await out(event)
    assert value(metrics, "hola_inter_token_latency_seconds_count") == 2, "of the second event"
    assert value(metrics, "hola_e2e_request_latency_seconds_count", service="drafter") == 1
    assert value(metrics, "hola_prompt_tokens_total") == 7
    of_draft = {"tier": "draft", "outcome": "proposed"}
    assert value(metrics, "hola_tier_tokens_total", **of_draft) == 5
    assert value(metrics, "hola_tier_tokens_total", **{**of_draft, "outcome": "accepted"}) == 3


async def test_a_failure_is_counted_by_its_reason():
    out, metrics = outlet([])
    await out(FAILURE)
    assert value(metrics, "hola_requests_total", service="drafter", outcome="engine_failure") == 1


async def test_a_receiver_that_refuses_is_told_apart():
    async def refuse(event):
        raise Fenced("another writer")

    out = Outlet(refuse, Metrics(), job())
    with pytest.raises(Fenced):
        await out(SUMMARY)
    assert out.broken
