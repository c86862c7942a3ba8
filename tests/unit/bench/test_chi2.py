"""The chi-squared test agrees with scipy, passes the right sampler and catches wrong ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from hola.speculation.sampling import choose
from hola.types import SamplingParams
from hola_bench.exactness.chi2 import (
    FALSE_ALARM_PROBABILITY,
    FILTERS,
    alarms,
    chi_squared,
    filtered,
    sampler_tests,
    tally,
    upper_gamma,
)


@pytest.mark.parametrize("a", [0.5, 1.0, 3.5, 20.0, 120.0])
@pytest.mark.parametrize("x", [0.0, 1e-6, 0.3, 1.0, 4.0, 25.0, 140.0, 900.0])
def test_the_gamma_function_is_scipys(a, x):
    assert upper_gamma(a, x) == pytest.approx(scipy.stats.gamma.sf(x, a), rel=1e-9, abs=1e-300)


def test_the_statistic_is_scipys():
    counts = np.array([40, 25, 20, 15])
    expected = np.array([0.4, 0.3, 0.2, 0.1])
    ours = chi_squared("x", counts, expected)
    theirs = scipy.stats.chisquare(counts, expected * 100)
    assert (ours.statistic, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert (ours.freedom, ours.draws) == (3, 100)


def test_rare_cells_are_counted_as_one():
    counts = np.array([50, 44, 2, 2, 2])
    expected = np.array([0.5, 0.44, 0.02, 0.02, 0.02])
    assert chi_squared("x", counts, expected).freedom == 2


def test_a_draw_that_cannot_be_is_an_alarm():
    assert chi_squared("x", np.array([90, 9, 1]), np.array([0.9, 0.1, 0.0])).p == 0.0


def test_too_few_draws_are_refused():
    with pytest.raises(ValueError, match="too few"):
        chi_squared("x", np.array([1, 0]), np.array([0.5, 0.5]))


def test_the_sampler_passes():
    tests = sampler_tests(seed=5, draws=1000)
    assert len(tests) == 2 * len(FILTERS)
    assert not list(alarms(tests))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 1.25},
        {"top_k": 6},
        {"top_p": 0.9},
        {"min_p": 0.15},
    ],
)
def test_a_sampler_with_another_parameter_is_caught(wrong):
    right = SamplingParams(temperature=1.0, top_k=8, top_p=0.97, min_p=0.02)
    row = np.random.default_rng(2).normal(scale=1.2, size=16).astype(np.float32)
    params = replace(right, **wrong)
    drawn = (choose(row, replace(params, seed=i), 0) for i in range(6000))
    test = chi_squared("wrong", tally(drawn, 16), filtered(row, right))
    assert list(alarms([test])) == [test]


def test_more_tests_make_each_stricter():
    row = np.zeros(4, np.float32)
    counts = np.array([1000, 1000, 1000, 1180])
    one = chi_squared("x", counts, filtered(row, SamplingParams(temperature=1.0)))
    assert one.p > FALSE_ALARM_PROBABILITY
    lucky = replace(one, p=FALSE_ALARM_PROBABILITY / 2)
    assert list(alarms([lucky])) == [lucky]
    assert list(alarms([lucky, one, one])) == []
