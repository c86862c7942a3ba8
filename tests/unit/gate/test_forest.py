"""Forests learn, are the same for the same seed, survive storage, and refuse what is malformed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hola.errors import ArtifactInvalid, InvalidRequest
from hola.retrieval.gate.forest import LEAF, Forest, fit_forest
from hola.retrieval.gate.isotonic import Isotonic, fit_isotonic

SEED = 7


def data(rows: int = 400):
    rng = np.random.default_rng(SEED)
    x = rng.random((rows, 4))
    x[:, 3] = 1.0  # says nothing
    return x, np.where(x[:, 1] > 0.5, 1.0, 0.0) + 0.05 * rng.standard_normal(rows)


def forest(trees: int = 20, min_leaf: int = 8, seed: int = SEED) -> Forest:
    return fit_forest(*data(), trees=trees, min_leaf=min_leaf, rng=np.random.default_rng(seed))


def test_it_learns_the_signal_that_counts():
    fitted = forest()
    low, high = fitted.predict(np.array([[0.5, 0.1, 0.5, 1.0], [0.5, 0.9, 0.5, 1.0]]))
    assert low < 0.2
    assert high > 0.8
    assert fitted.importance(4).argmax() == 1
    assert fitted.importance(4)[3] == 0


def test_no_leaf_is_smaller_than_allowed():
    x, y = data()
    fitted = fit_forest(x, y, trees=1, min_leaf=50, rng=np.random.default_rng(SEED))
    at = np.zeros(len(x), int)
    while (fitted.signal[at] != LEAF).any():
        right = x[np.arange(len(x)), fitted.signal[at]] > fitted.threshold[at]
        at = np.where(fitted.signal[at] == LEAF, at, fitted.left[at] + right)
    leaves, counts = np.unique(at, return_counts=True)
    assert counts.min() >= 50
    for leaf in leaves:
        assert fitted.value[leaf] == pytest.approx(y[at == leaf].mean(), abs=1e-6)


def test_the_seed_decides_everything():
    assert forest().as_json() == forest().as_json()
    assert forest().as_json() != forest(seed=SEED + 1).as_json()


def test_stored_and_read_back_it_decides_the_same_to_the_last_bit():
    fitted = forest()
    again = Forest.from_json(json.loads(json.dumps(fitted.as_json())), 4)
    rows = data(50)[0]
    assert (fitted.predict(rows) == again.predict(rows)).all()


def test_constant_targets_make_one_leaf():
    x, y = data()
    fitted = fit_forest(x, y * 0 + 2, trees=3, min_leaf=2, rng=np.random.default_rng(0))
    assert len(fitted.signal) == 3
    assert fitted.predict(x[:2]) == pytest.approx([2, 2])


def test_mismatched_input_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidRequest):
        fit_forest(np.zeros((0, 2)), np.zeros(0), trees=1, min_leaf=1, rng=rng)
    with pytest.raises(InvalidRequest):
        fit_forest(np.zeros((3, 2)), np.zeros(2), trees=1, min_leaf=1, rng=rng)


LEAF_ONLY = {"signal": [-1], "threshold": [0], "left": [0], "value": [0], "roots": [0]}
SPLIT = {
    "signal": [0, -1, -1],
    "threshold": [0, 0, 0],
    "left": [1, 0, 0],
    "value": [0, 0, 0],
    "roots": [0],
}
BROKEN = {
    "no nodes": {"signal": [], "threshold": [], "left": [], "value": [], "roots": [0]},
    "a loop": SPLIT | {"left": [0, 0, 0]},
    "a child outside": SPLIT | {"left": [2, 0, 0]},
    "an unknown signal": SPLIT | {"signal": [9, -1, -1]},
    "a root outside": LEAF_ONLY | {"roots": [1]},
    "no roots": LEAF_ONLY | {"roots": []},
    "short columns": SPLIT | {"threshold": [0]},
    "not finite": LEAF_ONLY | {"value": [float("nan")]},
    "text": LEAF_ONLY | {"signal": ["a"]},
    "no object": [],
    "nested": {name: [column] for name, column in LEAF_ONLY.items()},
}


def test_what_the_broken_ones_are_made_of_is_fine():
    assert Forest.from_json(SPLIT, 3).predict(np.zeros((1, 3))) == [0]
    assert Forest.from_json(LEAF_ONLY, 3).predict(np.zeros((1, 3))) == [0]


@pytest.mark.parametrize("stored", BROKEN.values(), ids=BROKEN)
def test_a_malformed_forest_is_refused(stored):
    with pytest.raises(ArtifactInvalid, match="malformed forest"):
        Forest.from_json(stored, 3)


def test_isotonic_pools_what_falls():
    fitted = fit_isotonic(np.array([1.0, 2, 3, 4]), np.array([0.0, 1, 0, 1]))
    assert fitted.scores.tolist() == [1, 2.5, 4]
    assert fitted.values.tolist() == [0, 0.5, 1]
    assert fitted(np.array([-9.0, 1.75, 9])).tolist() == [0, 0.25, 1]


def test_isotonic_blocks_hold_enough_rows():
    rng = np.random.default_rng(SEED)
    scores = rng.random(100)
    fitted = fit_isotonic(scores, (scores > rng.random(100)).astype(float), min_rows=30)
    assert len(fitted.scores) <= 3
    assert (np.diff(fitted.values) > 0).all()
    assert len(fit_isotonic(scores[:5], scores[:5], min_rows=30).scores) == 1


def test_equal_scores_get_one_value():
    fitted = fit_isotonic(np.array([1.0, 1, 1, 2]), np.array([0.0, 1, 0, 1]))
    assert fitted(np.array([1.0])) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"scores": [], "values": []},
        {"scores": [1, 2], "values": [1]},
        {"scores": [2, 1], "values": [0, 1]},
        {"scores": [1, 2], "values": [1, 0]},
        {"scores": [float("inf")], "values": [0]},
        {"scores": "x", "values": "y"},
        None,
    ],
)
def test_a_malformed_calibration_is_refused(stored):
    with pytest.raises(ArtifactInvalid, match="malformed calibration"):
        Isotonic.from_json(stored)
