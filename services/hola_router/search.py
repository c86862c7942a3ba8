"""Searches a tenant's collections for a request: one look, one search, or two hops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from hola.errors import StoreUnavailable
from hola.retrieval.deepen import bridging, follow_up, merged
from hola.retrieval.ports import DocumentStore, Embedder
from hola.retrieval.retriever import Retriever
from hola.retrieval.types import Passage, Query, SearchMode

LIGHT_PASSAGES = 8
DEEP_PASSAGES = 24
HOP_PASSAGES = 8
# What is longer is no question, and would cost a search as long.
MAX_QUESTION_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage and the collection it is from; `passage.score` orders the hits of one search."""

    collection: str
    passage: Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """What a search found, best first, what it took, and why it was not a better one."""

    hits: tuple[Hit, ...] = ()
    ms: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def passages(self) -> tuple[Passage, ...]:
        """Without their collections, in the same order."""
        return tuple(hit.passage for hit in self.hits)


_Found = tuple[list[Hit], tuple[str, ...]]
_Ask = Callable[[str], Awaitable[tuple[Sequence[Passage], str]]]


class Searcher:
    """One document store and one embedder. Use from one event loop.

    Every search raises UnknownCollection, InvalidRequest for an impossible name, StoreUnavailable
    (also after `timeout_s`), StoreCorrupt, EngineFailure.
    """

    def __init__(
        self, store: DocumentStore, embedder: Embedder | None = None, *, timeout_s: float = 10.0
    ) -> None:
        """Both stay the caller's to close."""
        self._store = store
        self._retriever = Retriever(store, embedder)
        self._has_embedder = embedder is not None
        self._timeout_s = timeout_s

    @property
    def has_embedder(self) -> bool:
        """Whether a search may find what shares no word with the question."""
        return self._has_embedder

    async def look(self, tenant: str, collections: Sequence[str], question: str) -> Hits:
        """The best passages by BM25 alone: what the gate goes by, a millisecond or two."""

        async def ask(collection: str) -> tuple[Sequence[Passage], str]:
            query = Query(text=question[:MAX_QUESTION_CHARS], k=LIGHT_PASSAGES)
            return await self._store.search(tenant, collection, query), ""

        return await self._timed(_each(collections, ask, LIGHT_PASSAGES))

    async def light(self, tenant: str, collections: Sequence[str], question: str) -> Hits:
        """One search, hybrid where a collection has vectors of the embedder here."""
        return await self._timed(self._search(tenant, collections, question, LIGHT_PASSAGES))

    async def deep(self, tenant: str, collections: Sequence[str], question: str) -> Hits:
        """More candidates, then a second search with the names they bring up, as one ranking."""
        return await self._timed(self._two_hops(tenant, collections, question))

    async def _two_hops(self, tenant: str, collections: Sequence[str], question: str) -> _Found:
        first, notes = await self._search(tenant, collections, question, DEEP_PASSAGES)
        further = follow_up(question, _passages(first))
        if not further:
            return first, notes
        second, _ = await self._search(tenant, collections, further, HOP_PASSAGES)
        brings = bridging(question, _passages(first), _passages(second))
        second = [hit for hit, does in zip(second, brings, strict=True) if does]
        return as_one([first, second])[:DEEP_PASSAGES], notes

    async def _search(
        self, tenant: str, collections: Sequence[str], question: str, k: int
    ) -> _Found:
        async def ask(collection: str) -> tuple[Sequence[Passage], str]:
            text = question[:MAX_QUESTION_CHARS]
            found = await self._retriever.search(tenant, collection, text, k=k)
            lesser = self._has_embedder and found.mode is SearchMode.BM25
            return found.passages, f"{collection}: bm25 alone, {found.note}" if lesser else ""

        return await _each(collections, ask, k)

    async def _timed(self, searching: Awaitable[_Found]) -> Hits:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                hits, notes = await searching
        except TimeoutError:
            raise StoreUnavailable(
                f"the document store did not answer within {self._timeout_s:g} s"
            ) from None
        return Hits(hits=tuple(hits), ms=(time.perf_counter() - began) * 1e3, notes=notes)


async def _each(collections: Sequence[str], ask: _Ask, most: int) -> _Found:
    """All collections' passages as one ranking of at most `most`; one keeps its own scores."""
    answers = await asyncio.gather(*(ask(name) for name in collections))
    rankings = [
        [Hit(name, passage) for passage in passages]
        for name, (passages, _) in zip(collections, answers, strict=True)
    ]
    notes = tuple(note for _, note in answers if note)
    return (rankings[0] if len(rankings) == 1 else as_one(rankings)[:most]), notes


def _passages(hits: Sequence[Hit]) -> list[Passage]:
    return [hit.passage for hit in hits]


def as_one(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Several rankings by the sum of their reciprocal ranks; a chunk of equal text comes once."""
    first: dict[str, Hit] = {}
    for hit in (hit for ranking in rankings for hit in ranking):
        first.setdefault(hit.passage.chunk.id, hit)
    scores = merged([[hit.passage.chunk.id for hit in ranking] for ranking in rankings])
    return [
        Hit(first[id_].collection, replace(first[id_].passage, score=score))
        for id_, score in scores.items()
    ]
