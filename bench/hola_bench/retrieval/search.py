"""Ranking quality and query time of a document store on a set in BEIR's form."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from hola.errors import HolaError
from hola.retrieval.embedder import OnnxEmbedder
from hola.retrieval.ports import DocumentStore
from hola.retrieval.retriever import Retriever
from hola.retrieval.types import ChunkedDocument, Fusion, SearchMode, Vector
from hola_bench.report import Number, rounded, spread
from hola_bench.retrieval.beir import TestSet
from hola_bench.retrieval.measures import ndcg, recall

TENANT = "bench"
DEPTH = 100
_BATCH = 256
_BM25, _HYBRID = "bm25", f"hybrid, {Fusion.RELATIVE}"
_RANKINGS = {
    _BM25: (SearchMode.BM25, Fusion.RELATIVE),
    "dense": (SearchMode.DENSE, Fusion.RELATIVE),
    _HYBRID: (SearchMode.HYBRID, Fusion.RELATIVE),
    f"hybrid, {Fusion.RECIPROCAL}": (SearchMode.HYBRID, Fusion.RECIPROCAL),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """One way of searching, over all queries: quality from DEPTH results, time for ten.

    Times are of the whole search, the query's encoding included.
    """

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


async def measure_search(
    asked: TestSet, store: DocumentStore, embedder: OnnxEmbedder | None, alpha: float
) -> tuple[dict[str, Number], dict[str, Any]]:
    """Index the set in a collection of its own, ask every query, and drop the collection.

    The headline's values and details. Without an embedder BM25 alone is measured.
    """
    name = f"set-{uuid.uuid4().hex}"
    try:
        facts = await _index(store, name, embedder, asked)
        retriever = Retriever(store, embedder)
        kinds = list(_RANKINGS) if embedder else [_BM25]
        rankings = [await _rank(retriever, name, asked, kind, alpha) for kind in kinds]
    finally:
        with suppress(HolaError):  # what went wrong before is worth more
            await store.drop(TENANT, name)
    return _headline({ranking.name: ranking for ranking in rankings}), {
        **facts,
        "alpha": alpha,
        "rankings": [ranking.row() for ranking in rankings],
    }


def _headline(rankings: Mapping[str, Ranking]) -> dict[str, Number]:
    """query_ms_p50 is of the search that `hola search` does by default."""
    headline: dict[str, Number] = {"ndcg10_bm25": rounded(rankings[_BM25].ndcg10)}
    usual = rankings.get(_HYBRID, rankings[_BM25])
    if usual.name == _HYBRID:
        headline["ndcg10_hybrid"] = rounded(usual.ndcg10)
    headline["query_ms_p50"] = spread(usual.query_ms)["median"]
    return headline


async def _index(
    store: DocumentStore, name: str, embedder: OnnxEmbedder | None, asked: TestSet
) -> Mapping[str, Any]:
    """Embed and write every document; what it took."""
    if embedder is None:
        await store.create(TENANT, name)
    else:
        await store.create(TENANT, name, embedder=embedder.id, dimensions=embedder.dimensions)
    embed_s = write_s = 0.0
    for start in range(0, len(asked.documents), _BATCH):
        batch = asked.documents[start : start + _BATCH]
        began = perf_counter()
        vectors = await _embed(embedder, batch) if embedder else {}
        embedded = perf_counter()
        await store.put(TENANT, name, batch, vectors)
        embed_s += embedded - began
        write_s += perf_counter() - embedded
    held = await store.collection(TENANT, name)
    return {
        "set": asked.name,
        "documents": held.documents,
        "queries": len(asked.queries),
        "embedder": f"{held.embedder} {embedder.manifest.precision}" if embedder else "none",
        "store_mib": rounded(held.bytes / 2**20),
        "embed_s": rounded(embed_s),
        "write_s": rounded(write_s),
    }


async def _embed(embedder: OnnxEmbedder, documents: Sequence[ChunkedDocument]) -> dict[str, Vector]:
    chunks = [chunk for document in documents for chunk in document.chunks]
    vectors = await embedder.embed([chunk.embedded_text for chunk in chunks])
    return {chunk.id: vector for chunk, vector in zip(chunks, vectors, strict=True)}


async def _rank(
    retriever: Retriever, name: str, asked: TestSet, kind: str, alpha: float
) -> Ranking:
    """Ask every query twice: DEPTH results for quality, then ten against the clock."""
    mode, fusion = _RANKINGS[kind]
    gains_found, recalls, times = [], [], []
    for query_id, text in asked.queries.items():
        deep = await retriever.search(
            TENANT, name, text, k=DEPTH, mode=mode, alpha=alpha, fusion=fusion
        )
        began = perf_counter()
        await retriever.search(TENANT, name, text, k=10, mode=mode, alpha=alpha, fusion=fusion)
        times.append((perf_counter() - began) * 1e3)
        ranked = [passage.source for passage in deep.passages]
        gains_found.append(ndcg(ranked, asked.gains[query_id]))
        recalls.append(recall(ranked, asked.gains[query_id], DEPTH))
    count = len(asked.queries)
    return Ranking(
        name=kind,
        ndcg10=sum(gains_found) / count,
        recall100=sum(recalls) / count,
        query_ms=times,
    )
