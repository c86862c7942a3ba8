"""How well a gate orders questions: gain over chance, retrieval rates, AUROC, calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hola.errors import InvalidRequest

Array = npt.NDArray[np.float64]
_EQUAL = 1e-9


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean score of answers (`accuracy`) when the first share `rates` of questions retrieves."""

    rates: Array
    accuracy: Array

    @property
    def never(self) -> float:
        """Without any retrieval."""
        return float(self.accuracy[0])

    @property
    def always(self) -> float:
        """With retrieval for all."""
        return float(self.accuracy[-1])

    def at(self, rate: float) -> float:
        """Accuracy at a share of retrieval, 0 to 1."""
        return float(np.interp(rate, self.rates, self.accuracy))

    @property
    def rate_at_always(self) -> float:
        """Least share of retrieval that is as good as retrieving for all."""
        return float(self.rates[np.argmax(self.accuracy >= self.always - _EQUAL)])

    @property
    def area(self) -> float:
        """Area between the curve and the straight line from never to always."""
        line = self.never + (self.always - self.never) * self.rates
        return float(np.trapezoid(self.accuracy - line, self.rates))


def curve(scores: Array, none: Array, light: Array) -> Curve:
    """Retrieve for the highest scores first; equal scores share what they bring.

    `none` and `light` are each answer's score without and with retrieval; all of shape (n,).
    Raises InvalidRequest for empty, unequal or non-finite input.
    """
    if not 0 < len(scores) == len(none) == len(light):
        raise InvalidRequest(f"{len(scores)} scores, {len(none)} and {len(light)} outcomes")
    if not np.isfinite([scores, none, light]).all():
        raise InvalidRequest("scores and outcomes must be finite")
    order = np.argsort(-scores, kind="stable")
    ranked, gains = scores[order], (light - none)[order]
    ties = np.cumsum(np.concatenate([[0], np.diff(ranked) != 0]))  # number of each row's tie
    gains = (np.bincount(ties, gains) / np.bincount(ties))[ties]
    rises = np.concatenate([[0.0], np.cumsum(gains)]) / len(gains)
    return Curve(np.linspace(0, 1, len(gains) + 1), none.mean() + rises)


def gain_share(scores: Array, none: Array, light: Array) -> float:
    """Area of the scores' curve as a share of the best possible: 0 is chance, 1 the oracle.

    0 where retrieval changes nothing, or the same for all.
    """
    best = curve(light - none, none, light).area
    return curve(scores, none, light).area / best if best > _EQUAL else 0.0


def auroc(scores: Array, labels: npt.NDArray[np.bool_]) -> float:
    """Probability that a labelled row scores above another, ties half; NaN with one kind only."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    wins = ranks[labels].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def spearman(a: Array, b: Array) -> float:
    """Correlation of ranks; NaN where one side is constant."""
    ranked = []
    for side in (a, b):
        _, inverse, counts = np.unique(side, return_inverse=True, return_counts=True)
        ranked.append((np.cumsum(counts) - (counts - 1) / 2)[inverse])
    spread = ranked[0].std() * ranked[1].std()
    if spread == 0:
        return math.nan
    centred = (ranked[0] - ranked[0].mean()) * (ranked[1] - ranked[1].mean())
    return float(centred.mean() / spread)


def calibration_error(expected: Array, found: Array, *, bins: int = 10) -> float:
    """Mean distance of expected and found values over `bins` equal groups of expected value."""
    groups = np.array_split(np.argsort(expected, kind="stable"), bins)
    gaps = [
        abs(expected[group].mean() - found[group].mean()) * len(group)
        for group in groups
        if len(group)
    ]
    return float(sum(gaps) / len(expected))


def bootstrap_gains(
    scores: Array, none: Array, light: Array, *, rng: np.random.Generator, draws: int = 200
) -> Array:
    """gain_share of `draws` resamples of the rows, shape (draws,)."""
    picks = rng.integers(0, len(scores), (draws, len(scores)))
    return np.array([gain_share(scores[pick], none[pick], light[pick]) for pick in picks])
