"""`hola bench retrieval`: how well and how fast the embedded store finds what answers a query."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from hola.retrieval.ports import DocumentStore
from hola.retrieval.sqlite_store import SqliteStore
from hola.retrieval.types import Query
from hola_bench.report import Number, Report, rounded, spread
from hola_bench.retrieval.beir import TestSet, read_set
from hola_bench.retrieval.measures import ndcg, recall

TENANT, NAME = "bench", "set"
DEPTH = 100
_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to measure: a folder in BEIR's form (hola_bench.retrieval.beir) and a part of it."""

    data: str
    split: str = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """One way of searching, over all queries: quality from DEPTH results, time for ten."""

    name: str
    ndcg10: float
    recall100: float
    query_ms: Sequence[float]

    def row(self) -> dict[str, Any]:
        """As a row of the report's table."""
        return {
            "ranking": self.name,
            "ndcg10": rounded(self.ndcg10),
            "recall100": rounded(self.recall100),
            "query_ms": spread(self.query_ms),
            "query_ms_p95": rounded(sorted(self.query_ms)[int(0.95 * len(self.query_ms))]),
        }


def run(options: Options) -> Report:
    """Index the set in a temporary folder and ask every query. Raises ArtifactInvalid."""
    asked = read_set(Path(options.data), options.split)
    with tempfile.TemporaryDirectory(prefix="hola-bench-") as folder:
        return asyncio.run(_measure(asked, Path(folder)))


async def _measure(asked: TestSet, folder: Path) -> Report:
    store = SqliteStore(folder)
    try:
        facts = await _index(store, asked)
        bm25 = await _rank(store, asked, "bm25")
    finally:
        await store.close()
    return Report(
        bench="retrieval",
        seed=0,
        repeats=1,
        headline=_headline(bm25),
        details={**facts, "rankings": [bm25.row()]},
    )


def _headline(bm25: Ranking) -> dict[str, Number]:
    return {
        "ndcg10_bm25": rounded(bm25.ndcg10),
        "query_ms_p50": spread(bm25.query_ms)["median"],
    }


async def _index(store: DocumentStore, asked: TestSet) -> Mapping[str, Any]:
    """Write every document; what it took."""
    await store.create(TENANT, NAME)
    began = perf_counter()
    for start in range(0, len(asked.documents), _BATCH):
        await store.put(TENANT, NAME, asked.documents[start : start + _BATCH])
    seconds = perf_counter() - began
    held = await store.collection(TENANT, NAME)
    return {
        "set": asked.name,
        "documents": held.documents,
        "queries": len(asked.queries),
        "store_mib": rounded(held.bytes / 2**20),
        "index_s": rounded(seconds),
    }


async def _rank(store: DocumentStore, asked: TestSet, name: str) -> Ranking:
    """Ask every query twice: DEPTH results for quality, then ten against the clock."""
    gains_found, recalls, times = [], [], []
    for query_id, text in asked.queries.items():
        deep = await store.search(TENANT, NAME, Query(text=text, k=DEPTH))
        began = perf_counter()
        await store.search(TENANT, NAME, Query(text=text, k=10))
        times.append((perf_counter() - began) * 1e3)
        ranked = [passage.source for passage in deep]
        gains_found.append(ndcg(ranked, asked.gains[query_id]))
        recalls.append(recall(ranked, asked.gains[query_id], DEPTH))
    count = len(asked.queries)
    return Ranking(
        name=name,
        ndcg10=sum(gains_found) / count,
        recall100=sum(recalls) / count,
        query_ms=times,
    )
