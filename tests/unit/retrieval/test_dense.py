"""The vectors in memory follow the table: what came, what went, what was saved."""

from __future__ import annotations

import numpy as np
import pytest

from hola.retrieval import dense
from hola.retrieval.dense import DenseIndex

DIMENSIONS = 32


class Table:
    """Rows of random unit vectors, and which of them were read."""

    def __init__(self, count: int) -> None:
        draws = np.random.default_rng(7).normal(size=(count, DIMENSIONS)).astype(np.float32)
        draws /= np.linalg.norm(draws, axis=1, keepdims=True)
        self.vectors = dict(enumerate(draws, 1))
        self.generation = 0
        self.read: list[int] = []

    def remove(self, *rows: int) -> None:
        for row in rows:
            del self.vectors[row]
        self.generation += 1

    def load(self, rows):
        self.read += rows
        return [(row, self.vectors[row]) for row in rows]

    def nearest(self, index: DenseIndex, vector, limit: int = 10) -> dict[int, float]:
        return index.nearest(
            vector,
            limit,
            generation=self.generation,
            rows=lambda: list(self.vectors),
            load=self.load,
        )

    def truth(self, vector, limit: int = 10) -> list[int]:
        return sorted(self.vectors, key=lambda row: -float(self.vectors[row] @ vector))[:limit]


def test_exact_search_is_exact(tmp_path):
    table = Table(300)
    index = DenseIndex(DIMENSIONS, tmp_path / "x.hnsw")
    for row in (1, 77, 300):
        vector = table.vectors[row]
        found = table.nearest(index, vector)
        assert list(found) == table.truth(vector)
        assert found[row] == pytest.approx(1.0, abs=1e-5)
    assert index.is_exact
    assert sorted(table.read) == list(range(1, 301)), "each vector is read once"


def test_only_what_is_new_is_read_and_what_is_gone_is_not_found(tmp_path):
    table = Table(100)
    late = table.vectors.pop(100)
    index = DenseIndex(DIMENSIONS, tmp_path / "x.hnsw")
    table.nearest(index, late)
    table.read.clear()
    table.vectors[100] = late
    table.remove(*range(1, 50))
    assert list(table.nearest(index, late)) == table.truth(late)
    assert table.read == [100]


def test_an_empty_table_has_nothing_near(tmp_path):
    table = Table(1)
    vector = table.vectors[1]
    table.remove(1)
    assert table.nearest(DenseIndex(DIMENSIONS, tmp_path / "x.hnsw"), vector) == {}


def test_the_graph_finds_nearly_all_and_follows_removals(tmp_path):
    table = Table(2000)
    index = DenseIndex(DIMENSIONS, tmp_path / "x.hnsw", exact_limit=100)
    queries = list(Table(2040).vectors.values())[2000:]
    hits = sum(len(table.nearest(index, q).keys() & set(table.truth(q))) for q in queries)
    assert hits >= 0.95 * 10 * len(queries)
    assert not index.is_exact
    gone = table.truth(queries[0])
    table.remove(*gone)
    assert not table.nearest(index, queries[0]).keys() & set(gone)


def test_a_small_collection_goes_back_to_exact(tmp_path):
    table = Table(200)
    index = DenseIndex(DIMENSIONS, tmp_path / "x.hnsw", exact_limit=100)
    vector = table.vectors[200]
    table.nearest(index, vector)
    table.remove(*range(1, 150))
    assert list(table.nearest(index, vector)) == table.truth(vector)
    assert index.is_exact


def test_a_saved_graph_is_taken_up_by_the_next_process(tmp_path, monkeypatch):
    monkeypatch.setattr(dense, "SAVE_AFTER", 100)
    file = tmp_path / "x.hnsw"
    table = Table(300)
    vector = table.vectors[300]
    table.nearest(DenseIndex(DIMENSIONS, file, exact_limit=10), vector)
    assert [path.name for path in tmp_path.iterdir()] == ["x.hnsw"]
    table.remove(5)
    table.read.clear()
    found = table.nearest(DenseIndex(DIMENSIONS, file, exact_limit=10), vector)
    assert next(iter(found)) == 300
    assert 5 not in found
    assert table.read == [], "the file had the rest"


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "other size"])
def test_a_damaged_graph_file_is_made_anew(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(dense, "SAVE_AFTER", 100)
    file = tmp_path / "x.hnsw"
    table = Table(300)
    vector = table.vectors[300]
    table.nearest(DenseIndex(DIMENSIONS, file, exact_limit=10), vector)
    saved = file.read_bytes()
    file.write_bytes(
        {"garbage": b"not a graph" * 50, "truncated": saved[: len(saved) // 2], "empty": b""}.get(
            damage, saved
        )
    )
    if damage == "other size":
        _save_another_size(file)
    found = table.nearest(DenseIndex(DIMENSIONS, file, exact_limit=10), vector)
    assert next(iter(found)) == 300


def _save_another_size(file) -> None:
    from usearch.index import Index

    index = Index(ndim=8, metric="ip", dtype="f16")
    index.add(np.arange(5), np.ones((5, 8), np.float32))
    index.save(str(file))


def test_without_usearch_everything_is_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(dense, "is_installed", lambda module: False)
    table = Table(50)
    index = DenseIndex(DIMENSIONS, tmp_path / "x.hnsw", exact_limit=10)
    vector = table.vectors[50]
    assert list(table.nearest(index, vector)) == table.truth(vector)
    assert index.is_exact
