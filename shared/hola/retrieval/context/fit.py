"""Fits a sentence scorer: logistic regression by Newton's method, with a penalty on weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hola.errors import InvalidRequest
from hola.retrieval.context.scorer import Scorer, feature

Array = npt.NDArray[np.float64]
PENALTY = 3e-3
_STEPS, _CLOSE = 50, 1e-7


def fit_scorer(
    signals: Array, labels: Array, names: Sequence[str], *, penalty: float = PENALTY
) -> Scorer:
    """The scorer of those signals and products of signals that explains the labels best.

    `signals` (sentences, len(SIGNALS)), `labels` (sentences,) of 0 and 1. `penalty` weighs squared
    weights of standardized features against the mean log likelihood. A feature that never changes
    gets no weight. Raises InvalidRequest for labels that are all equal, ArtifactInvalid for an
    unknown signal.
    """
    if len(signals) != len(labels) or not 0 < labels.mean() < 1:
        raise InvalidRequest("a scorer needs sentences with the label 0 and with 1", field="labels")
    Scorer(bias=0.0, weights=dict.fromkeys(names, 0.0))  # known names, or an error
    rows = np.column_stack([feature(signals, name) for name in names])
    used = np.ptp(rows, axis=0) > 0
    centre, scale = rows[:, used].mean(axis=0), rows[:, used].std(axis=0)
    scaled = np.column_stack([(rows[:, used] - centre) / scale, np.ones(len(rows))])
    found = _newton(scaled, labels, penalty)
    weights = found[:-1] / scale
    return Scorer(
        bias=_short(found[-1] - float(weights @ centre)),
        weights={
            name: _short(weight)
            for name, weight in zip(np.array(names)[used].tolist(), weights, strict=True)
        },
    )


def _newton(rows: Array, labels: Array, penalty: float) -> Array:
    """Weights of the columns; the last one, the bias, is not penalized."""
    weights = np.zeros(rows.shape[1])
    pull = np.full(rows.shape[1], penalty)
    pull[-1] = 0.0
    for _ in range(_STEPS):
        expected = 1 / (1 + np.exp(-rows @ weights))
        gradient = rows.T @ (expected - labels) / len(rows) + pull * weights
        curvature = (rows.T * (expected * (1 - expected))) @ rows / len(rows)
        step = np.linalg.solve(curvature + np.diag(pull + 1e-9), gradient)
        weights -= step
        if np.abs(step).max() < _CLOSE:
            break
    return weights


def _short(value: float) -> float:
    return float(f"{value:.5g}")
