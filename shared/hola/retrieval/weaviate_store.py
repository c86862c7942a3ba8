"""The document store on a Weaviate server: shards for collections, a catalog that names them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import weaviate
from weaviate.classes.query import Filter
from weaviate.classes.tenants import Tenant
from weaviate.collections import CollectionAsync
from weaviate.exceptions import UnexpectedStatusCodeError

from hola.errors import StoreUnavailable, UnknownCollection
from hola.retrieval import weaviate_search, weaviate_write
from hola.retrieval.rules import (
    check_documents,
    check_embedder,
    check_names,
    check_page,
    check_query,
    check_sources,
    check_vectors,
    tenant_folder,
)
from hola.retrieval.stems import Stemmer
from hola.retrieval.types import Changes, ChunkedDocument, Collection, Page, Passage, Query, Vector
from hola.retrieval.weaviate_connect import WeaviateAddress, WeaviateConnection, was_answered
from hola.retrieval.weaviate_schema import (
    Entry,
    Names,
    catalog_id,
    entry_of,
    entry_properties,
    make_collections,
)
from hola.retrieval.weaviate_shard import MAX_RESULTS, WeaviateShard

T = TypeVar("T")
Work = Callable[[WeaviateShard, Entry], Awaitable[T]]


class WeaviateStore:
    """hola.retrieval.ports.DocumentStore on a server that several processes may share.

    Writes to one collection take turns within a process.
    """

    def __init__(
        self, address: WeaviateAddress, *, key_file: str = "", timeout_s: float = 10.0
    ) -> None:
        """Nothing is reached before the first call; each request may take `timeout_s`."""
        self._names = Names(address.prefix)
        self._connection = WeaviateConnection(address, key_file=key_file, timeout_s=timeout_s)
        self._stemmer = Stemmer()
        self._made = False
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._writing: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def create(
        self, tenant: str, name: str, *, embedder: str = "", dimensions: int = 0
    ) -> Collection:
        """See DocumentStore."""
        check_names(tenant, name)
        wanted = Collection(tenant=tenant, name=name, embedder=embedder, dimensions=dimensions)

        async def work() -> Collection:
            entry = await self._entry(tenant, name) or await self._make(wanted)
            check_embedder((embedder, dimensions), entry.facts)
            return await self._described(entry)

        return await self._in_turn(tenant, name, work)

    async def collections(self, tenant: str) -> tuple[Collection, ...]:
        """See DocumentStore."""
        entries = await self._entries(tenant)
        return tuple([await self._described(entry) for entry in entries])

    async def collection(self, tenant: str, name: str) -> Collection:
        """See DocumentStore."""
        return await self._on(tenant, name, lambda _, entry: self._described(entry))

    async def drop(self, tenant: str, name: str) -> None:
        """See DocumentStore. The collection is gone with its catalog entry."""

        async def work(_: WeaviateShard, entry: Entry) -> None:
            await self._catalog(lambda held: held.data.delete_by_id(catalog_id(tenant, name)))
            await self._remove_shard(entry.shard)

        await self._write(tenant, name, work)

    async def put(
        self,
        tenant: str,
        name: str,
        documents: Sequence[ChunkedDocument],
        vectors: Mapping[str, Vector] | None = None,
    ) -> Changes:
        """See DocumentStore; each document changes as a whole, several one after the other."""
        check_documents(documents)
        given = vectors or {}

        async def work(shard: WeaviateShard, entry: Entry) -> Changes:
            if given:
                check_vectors(given, entry.facts)
            needs_vectors = bool(entry.facts.dimensions)
            return await weaviate_write.put(shard, documents, given, needs_vectors=needs_vectors)

        return await self._write(tenant, name, work)

    async def delete(self, tenant: str, name: str, source: str, *, parts: bool = True) -> Changes:
        """See DocumentStore; each document goes as a whole, several one after the other."""
        check_sources([source])
        return await self._write(
            tenant, name, lambda shard, _: weaviate_write.delete(shard, source, parts=parts)
        )

    async def digests(self, tenant: str, name: str, sources: Sequence[str]) -> dict[str, str]:
        """See DocumentStore."""
        check_sources(sources)
        found = await self._on(tenant, name, lambda shard, _: shard.documents(sources))
        return {source: document.digest for source, document in found.items()}

    async def sources(
        self, tenant: str, name: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> tuple[str, ...]:
        """See DocumentStore."""
        check_page(limit)
        return await self._on(
            tenant,
            name,
            lambda shard, _: shard.sources_from(prefix=prefix, after=after, limit=limit),
        )

    async def known(self, tenant: str, name: str, chunk_ids: Sequence[str]) -> set[str]:
        """See DocumentStore. Chunks that a write left behind when it was cut short are known."""
        return await self._on(tenant, name, lambda shard, _: shard.known(chunk_ids))

    async def page(self, tenant: str, name: str, *, after: str = "", limit: int = 64) -> Page:
        """See DocumentStore."""
        check_page(limit)

        async def work(shard: WeaviateShard, entry: Entry) -> Page:
            vectors = bool(entry.facts.dimensions)
            return await weaviate_search.page(shard, after, limit, vectors=vectors)

        return await self._on(tenant, name, work)

    async def search(self, tenant: str, name: str, query: Query) -> tuple[Passage, ...]:
        """See DocumentStore."""

        async def work(shard: WeaviateShard, entry: Entry) -> tuple[Passage, ...]:
            check_query(query, entry.facts)
            return await weaviate_search.search(shard, query)

        return await self._on(tenant, name, work)

    async def close(self) -> None:
        """Let running writes end, then close the connection. Idempotent."""
        self._closed = True
        if self._writing:
            await asyncio.wait(self._writing)
        await self._connection.close()
        self._stemmer.close()

    async def _write(self, tenant: str, name: str, work: Work[T]) -> T:
        return await self._in_turn(tenant, name, lambda: self._on(tenant, name, work))

    async def _in_turn(self, tenant: str, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """The result of a write, which ends even when its caller does not wait for it."""
        if self._closed:
            raise StoreUnavailable("the document store is closed")
        turn = self._turns.setdefault((tenant, name), asyncio.Lock())

        async def run() -> T:
            async with turn:
                return await work()

        task = asyncio.create_task(run())
        self._writing.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # its caller, if there is one still, has been told

    async def _on(self, tenant: str, name: str, work: Work[T]) -> T:
        """The result of work on a collection's shard. Raises UnknownCollection."""
        check_names(tenant, name)
        entry = await self._entry(tenant, name)
        if entry is None:
            raise await self._unknown(tenant, name)
        try:
            return await work(self._shard(entry), entry)
        except StoreUnavailable as error:
            # Its shard may be gone because another process dropped the collection meanwhile.
            if was_answered(error) and await self._entry(tenant, name) != entry:
                raise await self._unknown(tenant, name) from None
            raise

    def _shard(self, entry: Entry) -> WeaviateShard:
        return WeaviateShard(self._connection, self._names, entry.shard, self._stemmer)

    async def _described(self, entry: Entry) -> Collection:
        documents, chunks = await self._shard(entry).counts()
        return replace(entry.facts, documents=documents, chunks=chunks)

    async def _make(self, facts: Collection) -> Entry:
        """Make a shard and then the entry that names it; of two at a time, one's is taken."""
        if not self._made:
            await self._connection.call(lambda client: make_collections(client, self._names))
            self._made = True
        shard = uuid.uuid4().hex
        for name in (self._names.chunks, self._names.documents):
            await self._collection(name, lambda held: held.tenants.create([Tenant(name=shard)]))
        properties = entry_properties(facts, shard)
        try:
            await self._catalog(
                lambda held: held.data.insert(properties, uuid=catalog_id(facts.tenant, facts.name))
            )
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, UnexpectedStatusCodeError):
                raise
        entry = await self._entry(facts.tenant, facts.name)
        if entry is None:
            raise StoreUnavailable(
                f"Weaviate at {self._connection.address} did not keep collection {facts.name!r}"
            )
        if entry.shard != shard:
            await self._remove_shard(shard)
        return entry

    async def _remove_shard(self, shard: str) -> None:
        for name in (self._names.documents, self._names.chunks):
            await self._collection(name, lambda held: held.tenants.remove([shard]))

    async def _entry(self, tenant: str, name: str) -> Entry | None:
        """A collection's catalog entry; None where there is none."""
        if not await self._exists():
            return None
        found = await self._catalog(
            lambda held: held.query.fetch_object_by_id(catalog_id(tenant, name))
        )
        return None if found is None else entry_of(found, tenant)

    async def _entries(self, tenant: str) -> list[Entry]:
        """All of a tenant's, by name."""
        folder = tenant_folder(tenant)
        if not await self._exists():
            return []
        found = await self._catalog(
            lambda held: held.query.fetch_objects(
                filters=Filter.by_property("tenant").equal(folder), limit=MAX_RESULTS
            )
        )
        entries = [entry_of(one, tenant) for one in found.objects]
        return sorted(entries, key=lambda entry: entry.facts.name)

    async def _unknown(self, tenant: str, name: str) -> UnknownCollection:
        known = ", ".join(entry.facts.name for entry in await self._entries(tenant)) or "none"
        return UnknownCollection(
            f"there is no collection {name!r}; known: {known}", collection=name, known=known
        )

    async def _exists(self) -> bool:
        """Whether anybody has made a collection on this server yet."""
        if self._closed:
            raise StoreUnavailable("the document store is closed")
        if not self._made:
            catalog = self._names.catalog
            self._made = await self._connection.call(
                lambda client: client.collections.exists(catalog)
            )
        return self._made

    async def _catalog(self, work: Callable[[CollectionAsync[Any, Any]], Awaitable[T]]) -> T:
        return await self._collection(self._names.catalog, work)

    async def _collection(
        self, name: str, work: Callable[[CollectionAsync[Any, Any]], Awaitable[T]]
    ) -> T:
        def request(client: weaviate.WeaviateAsyncClient) -> Awaitable[T]:
            return work(client.collections.use(name))

        return await self._connection.call(request)
