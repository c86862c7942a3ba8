"""A router's library: tenants' collections, searched, counted and deleted from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from hola.bus.ports import Bus
from hola.errors import HolaError, InvalidRequest
from hola.retrieval.ports import DocumentStore, Embedder
from hola.retrieval.queries import (
    LibraryStats,
    SearchAnswer,
    Searched,
    SearchQuestion,
    check_question,
    merge,
)
from hola.retrieval.retriever import Found, Retriever
from hola.retrieval.types import Changes, Collection, SearchMode
from hola.telemetry import Metrics, get_logger

log = get_logger(__name__)

MAX_SOURCES = 1000
LOOK_AGAIN_S = 30.0


class OneEmbedder:
    """The embedder here, loaded when first needed; where there is none, it is looked for again."""

    def __init__(
        self,
        load: Callable[[], Embedder | None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load` may block."""
        self._load = load
        self._clock = clock
        self._found: Embedder | None = None
        self._look_again_at = 0.0
        self._loading = asyncio.Lock()

    async def get(self) -> Embedder | None:
        """None where there is none: BM25 alone.

        Raises ArtifactInvalid, ArtifactCorrupt, MissingExtra for one that cannot be used.
        """
        async with self._loading:
            if self._found is None and self._clock() >= self._look_again_at:
                self._found = await asyncio.to_thread(self._load)
                self._look_again_at = self._clock() + LOOK_AGAIN_S
            return self._found

    async def close(self) -> None:
        """Idempotent."""
        if self._found is not None:
            await self._found.close()


class Library:
    """What there is, for each tenant its own. Use from one event loop.

    Methods raise UnknownCollection where the tenant has none of a name, InvalidRequest for what is
    out of range, and what the store raises.
    """

    def __init__(
        self, store: DocumentStore, embedder: OneEmbedder, bus: Bus, metrics: Metrics
    ) -> None:
        """All stay the caller's to close."""
        self.store = store
        self.embedder = embedder
        self._bus = bus
        self._metrics = metrics

    async def search(self, question: SearchQuestion, *, tenant: str) -> SearchAnswer:
        """The best passages of the collections named, each searched as well as it allows.

        An embedder that cannot be used is as good as none, but where the question's mode needs
        one: raises EmbedderMismatch, and as OneEmbedder.get, for vectors that cannot be had.
        """
        check_question(question)
        with self._metrics.search_seconds.time():
            needed = question.mode not in (None, SearchMode.BM25)
            embedder = await (self.embedder.get() if needed else self._embedder_if_usable())
            retriever = Retriever(self.store, embedder)
            found = {
                name: await self._search(retriever, tenant, name, question)
                for name in question.collections
            }
        lists = [(name, one.passages) for name, one in found.items()]
        return SearchAnswer(
            passages=merge(lists, question.k),
            searched=tuple(
                Searched(name=name, mode=one.mode, note=one.note) for name, one in found.items()
            ),
        )

    async def delete(self, collection: str, source: str | None, *, tenant: str) -> Changes:
        """Remove a source and its parts, or with None the whole collection."""
        if source is not None:
            return await self.store.delete(tenant, collection, source)
        held = await self.store.collection(tenant, collection)
        await self.store.drop(tenant, collection)
        return Changes(documents=held.documents, chunks_removed=held.chunks)

    async def stats(
        self, collection: str = "", *, sources: int = 0, after: str = "", tenant: str
    ) -> LibraryStats:
        """The tenant's collections, or one of them and up to `sources` of its sources; its jobs."""
        if not 0 <= sources <= MAX_SOURCES:
            raise InvalidRequest(f"sources must be 0 to {MAX_SOURCES}", field="sources")
        named: tuple[str, ...] = ()
        held: tuple[Collection, ...]
        if collection:
            held = (await self.store.collection(tenant, collection),)
            if sources:
                named = await self.store.sources(tenant, collection, after=after, limit=sources)
        else:
            held = await self.store.collections(tenant)
        embedder = await self._embedder_if_usable()
        return LibraryStats(
            collections=held,
            embedder=embedder.id if embedder else "",
            sources=named,
            jobs=await self._bus.ingest_reports.reports(tenant),
        )

    async def _embedder_if_usable(self) -> Embedder | None:
        try:
            return await self.embedder.get()
        except HolaError as error:
            log.warning("embedder_not_loaded", reason=error.reason, message=error.message)
            return None

    async def _search(
        self, retriever: Retriever, tenant: str, name: str, question: SearchQuestion
    ) -> Found:
        return await retriever.search(
            tenant,
            name,
            question.text,
            k=question.k,
            mode=question.mode,
            alpha=question.alpha,
            fusion=question.fusion,
        )
