"""Nearest vectors of one collection: all compared up to ten thousand, a graph above."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.extras import is_installed, require
from hola.retrieval.types import Vector

EXACT_LIMIT = 10_000
# Changes after which the graph's file is written anew; 5,000 vectors a second are added again.
SAVE_AFTER = 5_000
_SEARCH_BREADTH = 256

Load = Callable[[Sequence[int]], Iterable[tuple[int, Vector]]]


class DenseIndex:
    """Mirrors the vectors table by row id. Thread-safe.

    Rows are never changed and their ids never used again, so a set difference says what is new.
    Without usearch everything is compared, at any size.
    """

    def __init__(self, dimensions: int, file: Path, *, exact_limit: int = EXACT_LIMIT) -> None:
        """`file` keeps the graph between processes; it may be deleted at any time."""
        self._dimensions = dimensions
        self._file = file
        self._exact_limit = exact_limit
        self._lock = threading.Lock()
        self._generation = -1
        self._flat = _Flat(dimensions)
        self._graph: _Graph | None = None

    @property
    def is_exact(self) -> bool:
        """True while every vector is compared."""
        return self._graph is None

    def nearest(
        self,
        vector: Vector,
        limit: int,
        *,
        generation: int,
        rows: Callable[[], list[int]],
        load: Load,
    ) -> dict[int, float]:
        """Row ids of the vectors most like `vector` and their cosines, best first.

        When the table's `generation` is not the one seen last, `rows` lists its row ids and `load`
        reads the vectors that are new.
        """
        with self._lock:
            if generation != self._generation:
                self._catch_up(rows(), load)
                self._generation = generation
            return (self._graph or self._flat).nearest(vector, limit)

    def _catch_up(self, rows: list[int], load: Load) -> None:
        wanted = set(rows)
        if len(wanted) <= self._exact_limit or not is_installed("usearch"):
            self._graph = None
            self._flat.become(wanted, load)
            return
        if self._graph is None:
            self._graph = _Graph.opened(self._dimensions, self._file)
            self._flat = _Flat(self._dimensions)
        self._graph.become(wanted, load)


class _Flat:
    """All vectors in one matrix, shape (rows, dimensions)."""

    def __init__(self, dimensions: int) -> None:
        self._rows: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._matrix: Vector = np.empty((0, dimensions), np.float32)

    def become(self, wanted: set[int], load: Load) -> None:
        """Hold the vectors of the wanted rows and no others."""
        kept = np.fromiter((row in wanted for row in self._rows), bool, len(self._rows))
        new = list(load(sorted(wanted.difference(self._rows.tolist()))))
        self._rows = np.concatenate([self._rows[kept], np.array([row for row, _ in new], np.int64)])
        self._matrix = np.vstack([self._matrix[kept], *(vector for _, vector in new)])

    def nearest(self, vector: Vector, limit: int) -> dict[int, float]:
        """As DenseIndex.nearest; ties by row id."""
        scores = self._matrix @ vector
        count = min(limit, len(scores))
        if not count:
            return {}
        top = np.argpartition(-scores, count - 1)[:count]
        top = top[np.lexsort((self._rows[top], -scores[top]))]
        return {int(self._rows[index]): float(scores[index]) for index in top}


class _Graph:
    """A usearch HNSW graph and its file."""

    def __init__(self, index: Any, file: Path) -> None:
        self._index = index
        self._file = file
        self._unsaved = 0

    @classmethod
    def opened(cls, dimensions: int, file: Path) -> _Graph:
        """The graph in the file, or an empty one where there is none that fits."""
        index = _empty(dimensions)
        if file.is_file():
            try:
                index.load(str(file))
            except (RuntimeError, ValueError):  # another version's, or damaged
                index = _empty(dimensions)
            if index.ndim != dimensions:
                index = _empty(dimensions)
        return cls(index, file)

    def become(self, wanted: set[int], load: Load) -> None:
        """Hold the vectors of the wanted rows and no others."""
        have = set(np.asarray(self._index.keys[:]).tolist())  # one by one they take seconds
        gone = have - wanted
        if gone:
            self._index.remove(np.array(sorted(gone), np.uint64))
        new = list(load(sorted(wanted - have)))
        if new:
            keys = np.array([row for row, _ in new], np.uint64)
            self._index.add(keys, np.vstack([vector for _, vector in new]))
        self._unsaved += len(gone) + len(new)
        if self._unsaved >= SAVE_AFTER:
            self._save()

    def nearest(self, vector: Vector, limit: int) -> dict[int, float]:
        """As DenseIndex.nearest, but a few of the nearest may be missing."""
        found = self._index.search(vector, limit)
        pairs = zip(found.keys.tolist(), found.distances.tolist(), strict=True)
        return {int(row): 1.0 - distance for row, distance in pairs}

    def _save(self) -> None:
        """Write the file beside and move it into place. A full disk costs only time later."""
        part = self._file.with_name(f"{self._file.name}.{os.getpid()}.part")
        with contextlib.suppress(OSError, RuntimeError):
            self._index.save(str(part))
            part.replace(self._file)
            self._unsaved = 0
        part.unlink(missing_ok=True)


def _empty(dimensions: int) -> Any:
    usearch = require("usearch.index", "retrieval")
    return usearch.Index(
        ndim=dimensions, metric="ip", dtype="f16", expansion_search=_SEARCH_BREADTH
    )
