"""Extremely randomized regression trees in numpy: seeded, small, and plain lists when stored.

Every split draws one threshold per signal at random and keeps the best of them (Geurts, Ernst and
Wehenkel, 2006). With few, noisy, mixed signals that is more stable than searching for the best
threshold, and averaging many such trees needs no tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.errors import ArtifactInvalid, InvalidRequest

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
LEAF = -1
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Forest:
    """All trees' nodes in one row each: a node goes left (`left[i]`) where x[signal] <= threshold.

    `left[i] + 1` is the right child. A leaf has signal LEAF. `roots` are the trees' first nodes.
    """

    signal: Ints
    threshold: Floats
    left: Ints
    value: Floats
    roots: Ints

    def predict(self, rows: Array) -> Array:
        """Mean value of the leaves each row falls into; rows (n, signals), result (n,)."""
        out = np.empty(len(rows))
        for index, row in enumerate(rows):
            at = self.roots
            while True:
                signal = self.signal[at]
                inner = signal != LEAF
                if not inner.any():
                    break
                right = row[signal] > self.threshold[at]
                at = np.where(inner, self.left[at] + right, at)
            out[index] = self.value[at].mean()
        return out

    def importance(self, signals: int) -> Array:
        """Share of all splits on each signal, shape (signals,)."""
        used = self.signal[self.signal != LEAF]
        return np.bincount(used, minlength=signals) / max(len(used), 1)

    def as_json(self) -> dict[str, Any]:
        """Lists; what is read back decides the same to the last bit."""
        return {
            "signal": self.signal.tolist(),
            "threshold": [_short(value) for value in self.threshold.tolist()],
            "left": self.left.tolist(),
            "value": [_short(value) for value in self.value.tolist()],
            "roots": self.roots.tolist(),
        }

    @classmethod
    def from_json(cls, stored: Any, signals: int) -> Forest:
        """The forest `as_json` wrote, over that many signals.

        Raises ArtifactInvalid where it is anything else, so that no walk can fail or never end.
        """
        try:
            forest = cls(
                signal=np.array(stored["signal"], np.int32),
                threshold=np.array(stored["threshold"], np.float32),
                left=np.array(stored["left"], np.int32),
                value=np.array(stored["value"], np.float32),
                roots=np.array(stored["roots"], np.int32),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtifactInvalid(f"malformed forest: {error!r}") from error
        forest._check(signals)
        return forest

    def _check(self, signals: int) -> None:
        size = len(self.signal) if self.signal.ndim == 1 else -1
        columns = (self.threshold, self.left, self.value)
        inner = self.signal != LEAF
        holds = (
            size > 0
            and all(column.shape == (size,) for column in columns)
            and self.roots.ndim == 1
            and len(self.roots) > 0
            and bool(np.isfinite(self.threshold).all() and np.isfinite(self.value).all())
            and bool(((self.signal >= LEAF) & (self.signal < signals)).all())
            and bool(((self.roots >= 0) & (self.roots < size)).all())
            # Children come behind their parent: every walk ends.
            and bool((self.left[inner] > np.flatnonzero(inner)).all())
            and bool((self.left[inner] < size - 1).all())
        )
        if not holds:
            raise ArtifactInvalid("malformed forest: its nodes do not fit together")


def fit_forest(
    rows: Array, targets: Array, *, trees: int, min_leaf: int, rng: np.random.Generator
) -> Forest:
    """Fit `trees` trees to rows (n, signals) and targets (n,), all finite.

    No leaf holds fewer than `min_leaf` rows. Raises InvalidRequest for empty or mismatched input.
    """
    if len(rows) == 0 or rows.ndim != 2 or targets.shape != (len(rows),):
        raise InvalidRequest(f"{rows.shape} rows do not go with {targets.shape} targets")
    grown = _Nodes()
    roots = []
    for _ in range(trees):
        roots.append(grown.add())
        _grow(grown, roots[-1], rows, targets, min_leaf, rng)
    return grown.forest(roots)


class _Nodes:
    """Nodes as they are added."""

    def __init__(self) -> None:
        self.signal: list[int] = []
        self.threshold: list[float] = []
        self.left: list[int] = []
        self.value: list[float] = []

    def add(self) -> int:
        """A leaf of value 0; its number."""
        self.signal.append(LEAF)
        self.threshold.append(0.0)
        self.left.append(0)
        self.value.append(0.0)
        return len(self.signal) - 1

    def forest(self, roots: Sequence[int]) -> Forest:
        return Forest(
            signal=np.array(self.signal, np.int32),
            threshold=np.array(self.threshold, np.float32),
            left=np.array(self.left, np.int32),
            value=np.array(self.value, np.float32),
            roots=np.array(roots, np.int32),
        )


def _grow(
    nodes: _Nodes,
    root: int,
    rows: Array,
    targets: Array,
    min_leaf: int,
    rng: np.random.Generator,
) -> None:
    """Grow one tree from its root down."""
    waiting = [(root, np.arange(len(rows)), 0)]
    while waiting:
        node, members, depth = waiting.pop()
        y = targets[members]
        nodes.value[node] = float(y.mean())
        if len(members) < 2 * min_leaf or depth == MAX_DEPTH or np.ptp(y) == 0:
            continue
        x = rows[members]
        split = _split(x, y, min_leaf, rng)
        if split is None:
            continue
        signal, threshold = split
        right = x[:, signal] > threshold
        nodes.signal[node], nodes.threshold[node] = signal, threshold
        nodes.left[node] = nodes.add()
        nodes.add()
        waiting.append((nodes.left[node], members[~right], depth + 1))
        waiting.append((nodes.left[node] + 1, members[right], depth + 1))


def _split(x: Array, y: Array, min_leaf: int, rng: np.random.Generator) -> tuple[int, float] | None:
    """The best of one random threshold per signal; None where no threshold leaves both sides full.

    Thresholds are float32 from the start, as they are stored.
    """
    low, high = x.min(axis=0), x.max(axis=0)
    thresholds = (low + (high - low) * rng.random(x.shape[1])).astype(np.float32)
    right = x > thresholds  # (n, signals)
    count = right.sum(axis=0)
    allowed = (count >= min_leaf) & (len(y) - count >= min_leaf)
    if not allowed.any():
        return None
    mean = y.mean()
    total = (y - mean) @ right  # sum of the right side's targets, around the mean
    between = np.where(allowed, total**2 / np.maximum(count * (len(y) - count), 1), -1.0)
    best = int(between.argmax())
    return best, float(thresholds[best])


def _short(value: float) -> float:
    """A float32 in the digits that bring it back."""
    return float(f"{value:.9g}")
