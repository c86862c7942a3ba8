"""`hola bench tracing` runs, and its arms are what it says."""

from __future__ import annotations

from hola import tracing
from hola_bench.tracing import ARMS, Options, off_span_ns, run

MODEL = "scripted:seed=7,eos_bias=-1000"


def test_it_measures_each_arm_and_leaves_nothing_on():
    report = run(Options(model=MODEL, repeats=2, max_tokens=8))
    assert [row["arm"] for row in report.details["arms"]] == list(ARMS)
    assert report.details["rounds"] >= 2
    assert report.details["spans_per_round"] >= 3
    assert all(value > 0 for value in report.headline.values())
    assert tracing.begin("x") is tracing.OFF


def test_a_span_that_is_off_is_timed():
    assert off_span_ns() > 0
