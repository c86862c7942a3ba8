"""The probability that a sentence supports an answer: a logistic model over its signals."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.errors import ArtifactInvalid
from hola.retrieval.context.signals import SIGNALS

Array = npt.NDArray[np.float64]
FORMAT = 1
WEIGHTS_FILE = "weights.json"
_LARGEST_LOGIT = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """Weights of signals and of products of two signals ("first*named_by"), and the bias."""

    bias: float
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        """Raises ArtifactInvalid for an unknown signal or a weight that is not finite."""
        if not math.isfinite(self.bias):
            raise ArtifactInvalid("the bias of the context weights is not finite")
        for name, weight in self.weights.items():
            if not set(name.split("*")) <= set(SIGNALS):
                raise ArtifactInvalid(f"context weights name an unknown signal: {name!r}")
            if not math.isfinite(weight):
                raise ArtifactInvalid(f"the context weights have no finite one of {name!r}")

    def score(self, signals: Array) -> Array:
        """Probability for each row of signals (sentences, len(SIGNALS)); shape (sentences,)."""
        logits = np.full(len(signals), self.bias)
        for name, weight in self.weights.items():
            logits += weight * feature(signals, name)
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT))))

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"format": FORMAT, "bias": self.bias, "weights": dict(self.weights)}

    @classmethod
    def from_json(cls, stored: Any) -> Scorer:
        """Raises ArtifactInvalid where it is anything but what `as_json` wrote."""
        try:
            if stored["format"] != FORMAT:
                raise ArtifactInvalid(f"context weights are of format {stored['format']!r}")
            weights = {str(name): float(value) for name, value in stored["weights"].items()}
            return cls(bias=float(stored["bias"]), weights=weights)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactInvalid(f"malformed context weights: {error!r}") from error


def feature(signals: Array, name: str) -> Array:
    """A signal's column, or the product of several joined by "*"."""
    column = np.ones(len(signals))
    for part in name.split("*"):
        column = column * signals[:, SIGNALS.index(part)]
    return column


@cache
def default_scorer() -> Scorer:
    """The weights that come with HOLA."""
    text = files("hola.retrieval.context").joinpath(WEIGHTS_FILE).read_text("utf-8")
    return Scorer.from_json(json.loads(text))
