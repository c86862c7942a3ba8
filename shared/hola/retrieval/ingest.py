"""Documents into a collection: only what changed is embedded, and whole batches are written."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from hola.errors import EmbedderMismatch, HolaError, InvalidRequest, UnknownCollection
from hola.retrieval.chunking import (
    DEFAULT_MAX_CHARS,
    DEFAULT_OVERLAP_CHARS,
    chunk_document,
    digest_of,
)
from hola.retrieval.ports import DocumentStore, Embedder
from hola.retrieval.retriever import dense_obstacle
from hola.retrieval.types import Chunk, ChunkedDocument, Collection, Document, Vector

BATCH_DOCUMENTS = 64
BATCH_CHUNKS = 128
_EMBED_AT_A_TIME = 16


class Outcome(enum.StrEnum):
    """What became of a document."""

    ADDED = "added"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """One document's outcome; `error` where it failed."""

    source: str
    outcome: Outcome
    chunks: int = 0
    error: HolaError | None = None


@dataclass(slots=True)
class _Batch:
    """Documents read so far, and what could not be read between them."""

    documents: dict[str, ChunkedDocument] = field(default_factory=dict)
    failed: list[Ingested] = field(default_factory=list)
    left_over: ChunkedDocument | None = None

    def is_full(self) -> bool:
        chunks = sum(len(document.chunks) for document in self.documents.values())
        return len(self.documents) >= BATCH_DOCUMENTS or chunks >= BATCH_CHUNKS


class Ingester:
    """Writes documents to one collection. `embedded` is told of each few chunks embedded."""

    def __init__(
        self,
        store: DocumentStore,
        embedder: Embedder | None,
        *,
        max_chars: int = DEFAULT_MAX_CHARS,
        overlap_chars: int = DEFAULT_OVERLAP_CHARS,
        embedded: Callable[[int], None] | None = None,
    ) -> None:
        """Store and embedder stay the caller's to close. Raises InvalidRequest for the sizes."""
        chunk_document(_EMPTY, max_chars=max_chars, overlap_chars=overlap_chars)
        self._store = store
        self._embedder = embedder
        self._max_chars = max_chars
        self._overlap_chars = overlap_chars
        self._embedded = embedded or _ignore

    async def check(self, tenant: str, name: str) -> None:
        """See that the collection, if it is there, can be written to; nothing is made.

        A collection without vectors takes documents from anyone. Raises EmbedderMismatch,
        InvalidRequest for an impossible name.
        """
        try:
            self._check(await self._store.collection(tenant, name))
        except UnknownCollection:
            return

    async def open(self, tenant: str, name: str) -> None:
        """As `check`, and make the collection for the embedder if it is not there."""
        try:
            held = await self._store.collection(tenant, name)
        except UnknownCollection:
            embedder = self._embedder
            held = await self._store.create(
                tenant,
                name,
                embedder=embedder.id if embedder else "",
                dimensions=embedder.dimensions if embedder else 0,
            )
        self._check(held)

    def _check(self, held: Collection) -> None:
        if held.embedder and (obstacle := dense_obstacle(held, self._embedder)):
            raise EmbedderMismatch(
                f"collection {held.name!r} cannot take documents: {obstacle}; "
                "`hola collections copy` makes one for another embedder",
                expected=held.embedder,
                got=self._embedder.id if self._embedder else "",
            )

    async def ingest(
        self, tenant: str, name: str, documents: Iterator[Document | HolaError]
    ) -> AsyncGenerator[Ingested, None]:
        """Each document's outcome, once it is on disk; a failed one leaves what was there before.

        `documents` is read in a thread, a batch ahead of nothing. Documents with the same digest
        are left alone. Of two with one source the later stays. Raises what the store raises.
        """
        vectors = (await self._store.collection(tenant, name)).dimensions > 0
        carried: ChunkedDocument | None = None
        while True:
            batch = await asyncio.to_thread(self._next_batch, documents, carried)
            for failed in batch.failed:
                yield failed
            if not batch.documents:
                return
            for outcome in await self._write(tenant, name, batch, vectors=vectors):
                yield outcome
            carried = batch.left_over

    def _next_batch(
        self, documents: Iterator[Document | HolaError], carried: ChunkedDocument | None
    ) -> _Batch:
        """Read and chunk until the batch is full or a source comes a second time. Blocking."""
        batch = _Batch()
        if carried is not None:
            batch.documents[carried.source] = carried
        while not batch.is_full():
            document = next(documents, None)
            if document is None:
                break
            if isinstance(document, HolaError):
                source = document.details.get("source", "")
                batch.failed.append(Ingested(source=source, outcome=Outcome.FAILED, error=document))
                continue
            chunked = self._chunked(document)
            if chunked.source in batch.documents:
                batch.left_over = chunked
                break
            batch.documents[chunked.source] = chunked
        return batch

    def _chunked(self, document: Document) -> ChunkedDocument:
        chunks = chunk_document(
            document, max_chars=self._max_chars, overlap_chars=self._overlap_chars
        )
        return ChunkedDocument(source=document.source, digest=digest_of(chunks), chunks=chunks)

    async def _write(
        self, tenant: str, name: str, batch: _Batch, *, vectors: bool
    ) -> list[Ingested]:
        """Write what changed; the outcome of every document of the batch."""
        stored = await self._store.digests(tenant, name, list(batch.documents))
        changed = [
            document
            for document in batch.documents.values()
            if stored.get(document.source) != document.digest
        ]
        if changed:
            await self._put(tenant, name, changed, vectors=vectors)
        written = {document.source for document in changed}
        return [
            Ingested(
                source=document.source,
                outcome=Outcome.ADDED if document.source in written else Outcome.UNCHANGED,
                chunks=len(document.chunks),
            )
            for document in batch.documents.values()
        ]

    async def _put(
        self, tenant: str, name: str, documents: Sequence[ChunkedDocument], *, vectors: bool
    ) -> None:
        chunks = {chunk.id: chunk for document in documents for chunk in document.chunks}
        if not vectors:
            await self._store.put(tenant, name, documents)
            return
        there = await self._store.known(tenant, name, list(chunks))
        new = await self._vectors([chunk for id_, chunk in chunks.items() if id_ not in there])
        try:
            await self._store.put(tenant, name, documents, new)
        except InvalidRequest as error:
            # Someone deleted the last other document with one of the known chunks meanwhile.
            if error.details.get("field") != "vectors" or not there:
                raise
            rest = await self._vectors([chunks[id_] for id_ in there])
            await self._store.put(tenant, name, documents, {**new, **rest})

    async def _vectors(self, chunks: Sequence[Chunk]) -> dict[str, Vector]:
        found: dict[str, Vector] = {}
        embedder = self._embedder
        for start in range(0, len(chunks) if embedder else 0, _EMBED_AT_A_TIME):
            part = chunks[start : start + _EMBED_AT_A_TIME]
            if embedder is not None:
                rows = await embedder.embed([chunk.embedded_text for chunk in part])
                found |= {chunk.id: row for chunk, row in zip(part, rows, strict=True)}
            self._embedded(len(part))
        return found


_EMPTY = Document(source="none")


def _ignore(_: int) -> None:
    """Tell nobody."""
