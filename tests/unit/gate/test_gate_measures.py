"""Measures of a gate against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hola.errors import InvalidRequest
from hola.retrieval.gate.measures import (
    auroc,
    bootstrap_gains,
    calibration_error,
    curve,
    gain_share,
    spearman,
)

NONE = np.array([0.0, 1, 0, 1])
LIGHT = np.array([1.0, 1, 0, 0])  # helped, same, same, broken


def test_a_curve_by_hand():
    found = curve(np.array([4.0, 3, 2, 1]), NONE, LIGHT)
    assert found.accuracy.tolist() == [0.5, 0.75, 0.75, 0.75, 0.5]
    assert (found.never, found.always, found.at(0.125)) == (0.5, 0.5, 0.625)
    assert found.rate_at_always == 0.0  # never is as good as always here
    assert curve(np.arange(4.0), 0 * NONE, LIGHT).rate_at_always == 1.0


def test_the_oracle_gains_all_and_its_opposite_less_than_nothing():
    gains = LIGHT - NONE
    assert gain_share(gains, NONE, LIGHT) == pytest.approx(1)
    assert gain_share(-gains, NONE, LIGHT) < -0.9


def test_a_gate_that_says_the_same_of_all_is_chance():
    assert gain_share(np.zeros(4), NONE, LIGHT) == pytest.approx(0)
    half = np.array([1.0, 1, 0, 0])
    by_hand = curve(half, NONE, LIGHT).accuracy  # the helped one is one of two that tie
    assert by_hand.tolist() == [0.5, 0.625, 0.75, 0.625, 0.5]


def test_nothing_to_gain_is_no_gain():
    assert gain_share(np.arange(4.0), NONE, NONE) == 0.0


def test_impossible_input_is_refused():
    with pytest.raises(InvalidRequest):
        curve(np.zeros(3), NONE, LIGHT)
    with pytest.raises(InvalidRequest):
        curve(np.zeros(0), np.zeros(0), np.zeros(0))
    with pytest.raises(InvalidRequest):
        curve(np.array([0, 0, 0, math.nan]), NONE, LIGHT)


def test_auroc_by_hand():
    labels = np.array([True, False, True, False])
    assert auroc(np.array([4.0, 3, 2, 1]), labels) == 0.75
    assert auroc(np.zeros(4), labels) == 0.5
    assert math.isnan(auroc(np.zeros(2), np.array([True, True])))


def test_spearman_sees_order_only():
    assert spearman(np.array([1.0, 2, 3]), np.array([1.0, 10, 1000])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert math.isnan(spearman(np.array([1.0, 1]), np.array([1.0, 2])))


def test_calibration_error_by_hand():
    expected, found = np.array([0.0, 0, 1, 1]), np.array([0.0, 1, 1, 1])
    assert calibration_error(expected, found, bins=2) == pytest.approx(0.25)
    assert calibration_error(expected, expected) == 0


def test_bootstrap_is_seeded_and_around_the_gain():
    rng = np.random.default_rng(0)
    none, light = rng.integers(0, 2, 300).astype(float), rng.integers(0, 2, 300).astype(float)
    scores = light - none + rng.standard_normal(300)
    draws = [
        bootstrap_gains(scores, none, light, rng=np.random.default_rng(1), draws=50)
        for _ in range(2)
    ]
    assert (draws[0] == draws[1]).all()
    assert abs(draws[0].mean() - gain_share(scores, none, light)) < 0.05
