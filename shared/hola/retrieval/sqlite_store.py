"""The embedded document store: a folder per tenant, a SQLite file per collection, no server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from hola.errors import StoreUnavailable, UnknownCollection
from hola.retrieval import sqlite_schema
from hola.retrieval.dense import EXACT_LIMIT
from hola.retrieval.rules import (
    check_documents,
    check_names,
    check_page,
    check_sources,
    tenant_folder,
)
from hola.retrieval.sqlite_collection import SUFFIX, SqliteCollection
from hola.retrieval.types import (
    Changes,
    ChunkedDocument,
    Collection,
    Page,
    Passage,
    Query,
    Vector,
)

T = TypeVar("T")
_READERS = 4


class SqliteStore:
    """hola.retrieval.ports.DocumentStore on files; several processes may share the folder."""

    def __init__(self, root: Path, *, exact_limit: int = EXACT_LIMIT) -> None:
        """`root` is made with the first collection. Vectors beyond `exact_limit` get a graph."""
        self._root = root
        self._exact_limit = exact_limit
        self._open: dict[tuple[str, str], SqliteCollection] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="hola-store")
        # Writers that wait for another process's lock leave the readers' threads alone.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="hola-store-write")

    async def create(
        self, tenant: str, name: str, *, embedder: str = "", dimensions: int = 0
    ) -> Collection:
        """See DocumentStore."""
        check_names(tenant, name)

        def work() -> Collection:
            path = self._path(tenant, name)
            sqlite_schema.create(path, name=name, embedder=embedder, dimensions=dimensions)
            opened = self._opened(tenant, name)
            opened.check_made_for(embedder, dimensions)
            return opened.describe()

        return await self._run(work, self._writer)

    async def collections(self, tenant: str) -> tuple[Collection, ...]:
        """See DocumentStore."""
        return await self._run(
            lambda: tuple(self._opened(tenant, name).describe() for name in self._names(tenant))
        )

    async def collection(self, tenant: str, name: str) -> Collection:
        """See DocumentStore."""
        return await self._on(tenant, name, lambda opened: opened.describe())

    async def drop(self, tenant: str, name: str) -> None:
        """See DocumentStore."""
        await self._on(tenant, name, lambda opened: opened.remove_files(), write=True)

    async def put(
        self,
        tenant: str,
        name: str,
        documents: Sequence[ChunkedDocument],
        vectors: Mapping[str, Vector] | None = None,
    ) -> Changes:
        """See DocumentStore; one transaction."""
        check_documents(documents)
        given = vectors or {}
        return await self._on(tenant, name, lambda opened: opened.put(documents, given), write=True)

    async def delete(self, tenant: str, name: str, source: str, *, parts: bool = True) -> Changes:
        """See DocumentStore; one transaction."""
        check_sources([source])
        return await self._on(
            tenant, name, lambda opened: opened.delete(source, parts=parts), write=True
        )

    async def digests(self, tenant: str, name: str, sources: Sequence[str]) -> dict[str, str]:
        """See DocumentStore."""
        check_sources(sources)
        return await self._on(tenant, name, lambda opened: opened.digests(sources))

    async def sources(
        self, tenant: str, name: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> tuple[str, ...]:
        """See DocumentStore."""
        check_page(limit)
        return await self._on(tenant, name, lambda opened: opened.sources(prefix, after, limit))

    async def known(self, tenant: str, name: str, chunk_ids: Sequence[str]) -> set[str]:
        """See DocumentStore."""
        return await self._on(tenant, name, lambda opened: opened.known(chunk_ids))

    async def page(self, tenant: str, name: str, *, after: str = "", limit: int = 64) -> Page:
        """See DocumentStore."""
        check_page(limit)
        return await self._on(tenant, name, lambda opened: opened.page(after, limit))

    async def search(self, tenant: str, name: str, query: Query) -> tuple[Passage, ...]:
        """See DocumentStore."""
        return await self._on(tenant, name, lambda opened: opened.search(query))

    async def close(self) -> None:
        """Let running calls end, then close every file. Idempotent."""
        self._closed = True
        for threads in (self._writer, self._readers):
            await asyncio.to_thread(threads.shutdown)
        with self._lock:
            opened = list(self._open.values())
            self._open.clear()
        for collection in opened:
            collection.close()

    async def _on(
        self,
        tenant: str,
        name: str,
        work: Callable[[SqliteCollection], T],
        *,
        write: bool = False,
    ) -> T:
        """The result of a blocking call on an open collection, made in a thread."""
        check_names(tenant, name)
        threads = self._writer if write else self._readers
        return await self._run(lambda: work(self._opened(tenant, name)), threads)

    async def _run(self, work: Callable[[], T], threads: ThreadPoolExecutor | None = None) -> T:
        if self._closed:
            raise StoreUnavailable("the document store is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads or self._readers, work)

    def _opened(self, tenant: str, name: str) -> SqliteCollection:
        """The collection, opened once and again when its file was made anew."""
        path = self._path(tenant, name)
        with self._lock:
            opened = self._open.get((tenant, name))
            if opened is not None and opened.is_current():
                return opened
            if opened is not None:
                opened.close()
                del self._open[tenant, name]
            if not path.is_file() or not sqlite_schema.is_complete(path):
                raise self._unknown(tenant, name)
            opened = SqliteCollection(path, tenant, exact_limit=self._exact_limit)
            self._open[tenant, name] = opened
            return opened

    def _unknown(self, tenant: str, name: str) -> UnknownCollection:
        known = ", ".join(self._names(tenant)) or "none"
        return UnknownCollection(
            f"there is no collection {name!r}; known: {known}", collection=name, known=known
        )

    def _names(self, tenant: str) -> list[str]:
        folder = self._root / tenant_folder(tenant)
        found = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
        return [path.name.removesuffix(SUFFIX) for path in found if sqlite_schema.is_complete(path)]

    def _path(self, tenant: str, name: str) -> Path:
        return self._root / tenant_folder(tenant) / f"{name}{SUFFIX}"
