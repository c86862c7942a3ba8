"""A question to a shard: two rankings of the server's, fused here, and where the chunks stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hola.errors import StoreCorrupt
from hola.retrieval.fusion import fuse
from hola.retrieval.terms import terms
from hola.retrieval.types import ChunkedDocument, Page, Passage, Query, SearchMode, Vector
from hola.retrieval.weaviate_shard import MAX_RESULTS, Hit, WeaviateShard

Place = tuple[str, int, int]  # source, ordinal, page


async def search(shard: WeaviateShard, query: Query) -> tuple[Passage, ...]:
    """The best passages of documents that are there.

    Chunks that no document names are passed over; where they took others' places among the
    candidates, more candidates are asked for.
    """
    hybrid = query.mode is SearchMode.HYBRID
    limit = max(query.k, query.candidates) if hybrid else query.k
    while True:
        bm25, dense = await _rankings(shard, query, limit)
        passages = await _passages(shard, _fused(query, bm25, dense), bm25, dense, query.k)
        full = limit in (len(bm25), len(dense))
        if len(passages) == query.k or not full or limit == MAX_RESULTS:
            return passages
        limit = min(2 * limit, MAX_RESULTS)


Ranking = Mapping[str, Hit]


async def _rankings(shard: WeaviateShard, query: Query, limit: int) -> tuple[Ranking, Ranking]:
    """Hits by chunk id from BM25 and from the vectors; {} for one that is not asked for."""
    bm25: list[Hit] = []
    dense: list[Hit] = []
    words = terms(query.text)
    if query.mode is not SearchMode.DENSE and words:
        bm25 = await shard.bm25(words, limit)
    if query.mode is not SearchMode.BM25 and query.vector is not None:
        dense = await shard.nearest(query.vector, limit)
    return {hit.id: hit for hit in bm25}, {hit.id: hit for hit in dense}


def _fused(query: Query, bm25: Ranking, dense: Ranking) -> dict[str, float]:
    """Scores by chunk id, best first."""
    scores = [{id_: hit.score for id_, hit in ranking.items()} for ranking in (bm25, dense)]
    if query.mode is SearchMode.HYBRID:
        return fuse(*scores, alpha=query.alpha, rule=query.fusion)
    return scores[0] or scores[1]


async def _passages(
    shard: WeaviateShard, scores: Mapping[str, float], bm25: Ranking, dense: Ranking, k: int
) -> tuple[Passage, ...]:
    """The first k of `scores` that stand in a document."""
    ranked = list(scores)
    passages: list[Passage] = []
    for start in range(0, len(ranked), k):
        part = ranked[start : start + k]
        places = await _places(shard, part)
        for id_ in part:
            if id_ in places:
                passages.append(_passage(id_, scores[id_], places[id_], bm25, dense))
        if len(passages) >= k:
            break
    return tuple(passages[:k])


async def _places(shard: WeaviateShard, chunks: Sequence[str]) -> dict[str, list[Place]]:
    """Where each of these chunks stands, in order of source; none for one that is nobody's."""
    wanted = set(chunks)
    places: dict[str, set[Place]] = {}
    async for document in shard.documents_with(chunks):
        for ordinal, (id_, page) in enumerate(zip(document.chunks, document.pages, strict=True)):
            if id_ in wanted:
                places.setdefault(id_, set()).add((document.source, ordinal, page))
    return {id_: sorted(found) for id_, found in places.items()}


def _passage(id_: str, score: float, places: list[Place], bm25: Ranking, dense: Ranking) -> Passage:
    source, ordinal, page = places[0]
    words, likeness = bm25.get(id_), dense.get(id_)
    chunk = (words or dense[id_]).chunk
    return Passage(
        chunk=replace(chunk, page=page),
        source=source,
        ordinal=ordinal,
        score=score,
        bm25=words.score if words else None,
        dense=likeness.score if likeness else None,
        also_in=tuple(dict.fromkeys(place[0] for place in places if place[0] != source)),
    )


async def page(shard: WeaviateShard, after: str, limit: int, *, vectors: bool) -> Page:
    """Up to `limit` documents whose source comes after `after`, with their vectors.

    Raises StoreCorrupt for a document that names a chunk which is not there.
    """
    found = await shard.documents_from(after=after, limit=limit)
    wanted = dict.fromkeys(id_ for document in found for id_ in document.chunks)
    chunks = await shard.chunks(list(wanted), vectors=vectors)
    documents = []
    for document in found:
        missing = [id_ for id_ in document.chunks if id_ not in chunks]
        if missing:
            raise StoreCorrupt(
                f"{document.source}: {len(missing)} of its {len(document.chunks)} chunks are"
                " missing in Weaviate; delete this source and ingest it again",
                source=document.source,
            )
        parts = zip(document.chunks, document.pages, strict=True)
        documents.append(
            ChunkedDocument(
                source=document.source,
                digest=document.digest,
                chunks=tuple(replace(chunks[id_].chunk, page=number) for id_, number in parts),
            )
        )
    held: dict[str, Vector] = {
        id_: one.vector for id_, one in chunks.items() if one.vector is not None
    }
    return Page(documents=tuple(documents), vectors=held)
