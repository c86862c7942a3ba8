"""The load bench's own arithmetic: growth of memory, tokens by time, and what counts as a harm."""

from __future__ import annotations

import os

import pytest

from hola.errors import HolaError
from hola.types import Exactness, Failure, FinishReason, Outcome, Summary, TokenEvent, Tokens
from hola_bench.load.crowd import Reading, Served
from hola_bench.load.memory import Samples, growth, resident_bytes
from hola_bench.load.summary import failed
from hola_bench.report import Report

END = Summary(finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=2)


def tokens(position, *ids):
    events = tuple(TokenEvent(token=i, text="", tier=0, outcome=Outcome.PLAIN) for i in ids)
    return Tokens(position=position, tokens=events)


def test_growth_compares_late_with_early_low_water():
    points = [(float(second), 100 + second) for second in range(100)]
    points[50] = (50.0, 10**9)  # a peak in the middle is no growth
    points[90] = (90.0, 10**9)  # nor is one late: it goes away again
    found = growth(Samples(name="x", points=points), 0.0, 100.0)
    assert (found.early, found.late) == (103, 170)
    assert found.percent == pytest.approx(65.05, abs=0.01)
    assert found.median_percent == pytest.approx(57.08, abs=0.01)
    assert found.by_minute == (129.5,)


def test_growth_needs_samples_at_both_ends():
    assert growth(Samples(name="x", points=[(1.0, 5)]), 0.0, 100.0) is None
    assert growth(Samples(name="x"), 0.0, 100.0) is None


def test_memory_of_a_real_process():
    assert resident_bytes(os.getpid()) > 10 * 2**20
    with pytest.raises(OSError, match="No such file"):
        resident_bytes(2**30)


def test_tokens_are_counted_by_time():
    served = Served(tokens=[(0.5, 3), (1.0, 4), (2.0, 5)])
    assert served.tokens_between(1.0, 2.0) == 4


def read(*events):
    reading = Reading((7, 8))
    for event in events:
        reading.take(event)
    reading.check_end()


def test_a_stream_as_expected_is_fine():
    read(tokens(0, 7), tokens(1, 8), END)


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([tokens(0, 7, 9)], "wrong token at 1"),
        ([tokens(0, 7, 8, 9)], "wrong token at 2"),
        ([Failure(reason="X", message="broke", grpc_code=13)], "X: broke"),
        ([tokens(0, 7, 8)], "no end"),
        ([tokens(0, 7), END], "1 of 2 tokens"),
        (
            [
                Summary(
                    finish_reason=FinishReason.CANCELLED,
                    prompt_tokens=1,
                    completion_tokens=0,
                    exactness=Exactness.EXACT,
                )
            ],
            "cancelled by nobody",
        ),
    ],
)
def test_every_harm_is_an_error(events, why):
    with pytest.raises(HolaError, match=why):
        read(*events)


@pytest.mark.parametrize(
    ("changed", "is_failed"),
    [
        ({}, False),
        ({"errors": 1}, True),
        ({"stuck_sessions": 1}, True),
        ({"fairness": 0.79}, True),
        ({"rss_growth_percent": 5.1}, True),
    ],
)
def test_what_fails_a_run(changed, is_failed):
    good = {"errors": 0, "stuck_sessions": 0, "fairness": 0.81, "rss_growth_percent": 4.9}
    report = Report(
        bench="load",
        seed=0,
        repeats=1,
        headline={**good, **changed},
        details={"left_behind": {"keys_without_expiry": ""}},
    )
    assert failed(report) is is_failed


def test_a_key_that_never_expires_fails_a_run():
    good = {"errors": 0, "stuck_sessions": 0, "fairness": 1.0, "rss_growth_percent": 0.0}
    details = {"left_behind": {"keys_without_expiry": "hola:leak"}}
    assert failed(Report(bench="load", seed=0, repeats=1, headline=good, details=details))
