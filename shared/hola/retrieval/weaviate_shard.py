"""One collection's chunks and documents on a Weaviate server: each method a request or a few."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import weaviate
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter, MetadataQuery, Sort
from weaviate.collections import CollectionAsync
from weaviate.collections.classes.filters import FilterReturn

from hola.errors import StoreUnavailable
from hola.retrieval.stems import Stemmer
from hola.retrieval.types import Chunk, ChunkedDocument, Vector
from hola.retrieval.weaviate_connect import WeaviateConnection
from hola.retrieval.weaviate_schema import (
    VECTOR,
    Found,
    Names,
    StoredDocument,
    chunk_id,
    chunk_in,
    chunk_object,
    chunk_of,
    document_id,
    document_object,
    document_of,
    source_key,
    source_of,
    vector_in,
)

T = TypeVar("T")
# What one request asks for or carries, well under a server's bounds (10,000 results, 10 MB).
BATCH_IDS = 500
BATCH_OBJECTS = 100
BATCH_CHARS = 2_000_000
MAX_RESULTS = 10_000


class Hit(NamedTuple):
    """A chunk that a ranking found."""

    id: str
    score: float
    chunk: Chunk


class StoredChunk(NamedTuple):
    """A chunk and its vector, None where it has none or was not asked for."""

    chunk: Chunk
    vector: Vector | None


class WeaviateShard:
    """Requests to one shard, without any rule about their order.

    Every method raises StoreUnavailable, and StoreCorrupt for objects of another making.
    """

    def __init__(
        self, connection: WeaviateConnection, names: Names, shard: str, stemmer: Stemmer
    ) -> None:
        """Nothing is reached yet."""
        self._connection = connection
        self._names = names
        self._shard = shard
        self._stemmer = stemmer

    async def counts(self) -> tuple[int, int]:
        """Documents and chunks."""
        totals = await asyncio.gather(
            self._documents(lambda held: held.aggregate.over_all(total_count=True)),
            self._chunks(lambda held: held.aggregate.over_all(total_count=True)),
        )
        documents, chunks = (total.total_count or 0 for total in totals)
        return documents, chunks

    async def documents(self, sources: Sequence[str]) -> dict[str, StoredDocument]:
        """Those of these sources that are there."""
        found: dict[str, StoredDocument] = {}
        for part in _parts(sources, BATCH_IDS):
            wanted = Filter.by_id().contains_any([document_id(source) for source in part])
            for one in await self._some_documents(wanted, len(part)):
                found[one.source] = one
        return found

    async def documents_from(
        self, *, prefix: str = "", after: str = "", limit: int
    ) -> list[StoredDocument]:
        """Up to `limit` documents with a prefix that come after a source, in order."""
        wanted = _in_range(prefix, after)
        return await self._some_documents(wanted, limit, in_order=True)

    async def sources_from(self, *, prefix: str, after: str, limit: int) -> tuple[str, ...]:
        """The sources of `documents_from`."""
        answer = await self._documents(
            lambda held: held.query.fetch_objects(
                filters=_in_range(prefix, after),
                limit=limit,
                sort=Sort.by_property("key"),
                return_properties=["source"],
            )
        )
        return tuple(source_of(one) for one in answer.objects)

    async def documents_with(self, chunks: Sequence[str]) -> AsyncIterator[StoredDocument]:
        """Every document that names one of these chunks; one may come several times."""
        for part in _parts(chunks, BATCH_IDS):
            naming = Filter.by_property("chunks").contains_any(list(part))
            after = ""
            while True:
                wanted = naming & _after(after) if after else naming
                found = await self._some_documents(wanted, BATCH_IDS, in_order=True)
                for one in found:
                    yield one
                if len(found) < BATCH_IDS:
                    break
                after = found[-1].source

    async def known(self, chunks: Sequence[str]) -> set[str]:
        """Those of these chunks that are written, named by a document or not."""
        return set(await self.chunks(chunks, whole=False))

    async def chunks(
        self, chunks: Sequence[str], *, vectors: bool = False, whole: bool = True
    ) -> dict[str, StoredChunk]:
        """Those of these chunks that are written; not `whole`: without their text."""
        found: dict[str, StoredChunk] = {}
        for part in _parts(chunks, BATCH_OBJECTS if whole else BATCH_IDS):
            for one in await self._fetch_chunks(part, vectors=vectors, whole=whole):
                chunk = chunk_in(one) if whole else Chunk(text="")
                found[chunk_of(one.uuid)] = StoredChunk(chunk, vector_in(one))
        return found

    async def write_chunks(self, chunks: Sequence[StoredChunk]) -> None:
        """Write chunks; one that is there stays as it is."""
        texts = [one.chunk.embedded_text for one in chunks]
        stems = await asyncio.to_thread(self._stemmer.stems, texts)
        objects = (
            chunk_object(one.chunk, " ".join(words), one.vector)
            for one, words in zip(chunks, stems, strict=True)
        )
        for batch in _batches(objects):
            await self._insert(self._names.chunks, batch)

    async def write_documents(self, documents: Sequence[ChunkedDocument]) -> None:
        """Write documents, each in place of what its source had."""
        for batch in _batches(map(document_object, documents)):
            await self._insert(self._names.documents, batch)

    async def remove_documents(self, sources: Sequence[str]) -> None:
        """Remove what is there of these sources."""
        await self._remove(self._names.documents, [document_id(source) for source in sources])

    async def remove_chunks(self, chunks: Sequence[str]) -> None:
        """Remove what is there of these chunks."""
        await self._remove(self._names.chunks, [chunk_id(id_) for id_ in chunks])

    async def bm25(self, words: Sequence[str], limit: int) -> list[Hit]:
        """The best chunks for any of these words, best first."""
        (stems,) = await asyncio.to_thread(self._stemmer.stems, [" ".join(words)])
        query = " ".join(dict.fromkeys(stems))
        if not query:
            return []
        answer = await self._chunks(
            lambda held: held.query.bm25(
                query=query,
                query_properties=["stems"],
                limit=limit,
                return_metadata=MetadataQuery(score=True),
                return_properties=["title", "heading", "text"],
            )
        )
        return _ranked((one, one.metadata.score) for one in answer.objects)

    async def nearest(self, vector: Vector, limit: int) -> list[Hit]:
        """The chunks whose vectors are most like this one and their cosines, best first."""
        numbers = vector.astype(float).tolist()
        answer = await self._chunks(
            lambda held: held.query.near_vector(
                near_vector=numbers,
                target_vector=VECTOR,
                limit=limit,
                return_metadata=MetadataQuery(distance=True),
                return_properties=["title", "heading", "text"],
            )
        )
        return _ranked(
            (one, None if one.metadata.distance is None else 1.0 - one.metadata.distance)
            for one in answer.objects
        )

    async def _some_documents(
        self, wanted: FilterReturn | None, limit: int, *, in_order: bool = False
    ) -> list[StoredDocument]:
        answer = await self._documents(
            lambda held: held.query.fetch_objects(
                filters=wanted,
                limit=limit,
                sort=Sort.by_property("key") if in_order else None,
            )
        )
        return [document_of(one) for one in answer.objects]

    async def _fetch_chunks(
        self, chunks: Sequence[str], *, vectors: bool, whole: bool
    ) -> Sequence[Found]:
        include: bool | list[str] = [VECTOR] if vectors else False
        answer = await self._chunks(
            lambda held: held.query.fetch_objects(
                filters=Filter.by_id().contains_any([chunk_id(id_) for id_ in chunks]),
                limit=len(chunks),
                include_vector=include,
                return_properties=["title", "heading", "text"] if whole else [],
            )
        )
        return answer.objects

    async def _remove(self, name: str, ids: Sequence[UUID]) -> None:
        for part in _parts(ids, BATCH_IDS):
            wanted = Filter.by_id().contains_any(part)
            await self._on(name, partial(_delete_many, wanted=wanted))

    async def _insert(self, name: str, objects: list[DataObject[Any, Any]]) -> None:
        result = await self._on(name, lambda held: held.data.insert_many(objects))
        for error in result.errors.values():
            raise StoreUnavailable(
                f"Weaviate at {self._connection.address} did not take {len(result.errors)} of"
                f" {len(objects)} objects: {error.message[:200]}"
            )

    async def _documents(self, work: Callable[[CollectionAsync[Any, Any]], Awaitable[T]]) -> T:
        return await self._on(self._names.documents, work)

    async def _chunks(self, work: Callable[[CollectionAsync[Any, Any]], Awaitable[T]]) -> T:
        return await self._on(self._names.chunks, work)

    async def _on(self, name: str, work: Callable[[CollectionAsync[Any, Any]], Awaitable[T]]) -> T:
        def request(client: weaviate.WeaviateAsyncClient) -> Awaitable[T]:
            return work(client.collections.use(name).with_tenant(self._shard))

        return await self._connection.call(request)


def _in_range(prefix: str, after: str) -> FilterReturn | None:
    """Documents with a prefix that come after a source; None for all."""
    conditions = [_after(after)] if after else []
    if prefix:
        conditions.append(Filter.by_property("key").like(f"{source_key(prefix)}*"))
    return Filter.all_of(conditions) if conditions else None


def _after(source: str) -> FilterReturn:
    return Filter.by_property("key").greater_than(source_key(source))


async def _delete_many(held: CollectionAsync[Any, Any], wanted: FilterReturn) -> None:
    await held.data.delete_many(wanted)


def _ranked(found: Iterable[tuple[Found, float | None]]) -> list[Hit]:
    """Best first, ties in order of id whatever the server did."""
    hits = [
        Hit(chunk_of(one.uuid), score, chunk_in(one)) for one, score in found if score is not None
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def _parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _batches(objects: Iterable[DataObject[Any, Any]]) -> Iterator[list[DataObject[Any, Any]]]:
    """Objects in parts of so many and so much text as one request may carry."""
    batch: list[DataObject[Any, Any]] = []
    chars = 0
    for one in objects:
        size = sum(len(str(value)) for value in one.properties.values())
        if batch and (len(batch) >= BATCH_OBJECTS or chars + size > BATCH_CHARS):
            yield batch
            batch, chars = [], 0
        batch.append(one)
        chars += size
    if batch:
        yield batch
