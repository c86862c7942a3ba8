"""Calibration: the rising step function that fits best what scores came to mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.errors import ArtifactInvalid, InvalidRequest

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A rising function through (scores, values), linear in between and flat outside."""

    scores: Array
    values: Array

    def __call__(self, scores: Array) -> Array:
        """Values of scores, any shape."""
        return np.interp(scores, self.scores, self.values)

    def as_json(self) -> dict[str, Any]:
        """Two lists."""
        return {"scores": self.scores.tolist(), "values": self.values.tolist()}

    @classmethod
    def from_json(cls, stored: Any) -> Isotonic:
        """What `as_json` wrote. Raises ArtifactInvalid unless both lists are finite and rise."""
        try:
            scores = np.array(stored["scores"], np.float64)
            values = np.array(stored["values"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactInvalid(f"malformed calibration: {error!r}") from error
        fits = scores.ndim == 1 and scores.shape == values.shape and len(scores) > 0
        if not fits or not np.isfinite([scores, values]).all():
            raise ArtifactInvalid("malformed calibration: it needs as many scores as values")
        if (np.diff(scores) <= 0).any() or (np.diff(values) < 0).any():
            raise ArtifactInvalid("malformed calibration: scores and values must rise")
        return cls(scores, values)


def fit_isotonic(scores: Array, outcomes: Array, *, min_rows: int = 1) -> Isotonic:
    """Pool neighbours that fall, until block means rise (least squares); a point per block.

    A point stands at its block's mean score. Blocks begin as `min_rows` neighbours (the last one
    takes the rest), so that no single lucky row sets an end of the curve.
    Raises InvalidRequest for empty or unequal input.
    """
    if len(scores) == 0 or scores.shape != outcomes.shape:
        raise InvalidRequest(f"{scores.shape} scores do not go with {outcomes.shape} outcomes")
    blocks: list[tuple[float, float, float]] = []  # rows, sum of scores, sum of outcomes
    order = np.argsort(scores, kind="stable")
    for start in range(max(len(order) // min_rows, 1)):
        last_one = start + 2 > len(order) // min_rows
        rows_of = order[start * min_rows : None if last_one else (start + 1) * min_rows]
        sums_of = float(scores[rows_of].sum()), float(outcomes[rows_of].sum())
        block = (float(len(rows_of)), *sums_of)
        while blocks and not _rises(blocks[-1], block):
            last = blocks.pop()
            block = (block[0] + last[0], block[1] + last[1], block[2] + last[2])
        blocks.append(block)
    rows, score_sums, sums = np.array(blocks).T
    return Isotonic(score_sums / rows, sums / rows)


def _rises(before: tuple[float, float, float], after: tuple[float, float, float]) -> bool:
    score = after[1] / after[0] > before[1] / before[0]
    return score and after[2] / after[0] > before[2] / before[0]
