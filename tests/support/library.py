"""A router with collections on real sockets, and what clients send it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hola_router.app
from hola.config import Settings
from hola.retrieval.ingest_job import (
    End,
    FileHead,
    IngestOptions,
    IngestPart,
    IngestReport,
    TextDocument,
)
from hola.retrieval.ports import DocumentStore
from hola.retrieval.queries import SearchQuestion
from hola.rpc.retrieval_client import RetrievalClient
from hola_router.app import RouterApp

TENANT, COLLECTION = "default", "work"
ALL = End()


def library_settings(folder: Path, bus: str, **changes: Any) -> Settings:
    """BM25 alone, short waits, collections in `folder`."""
    values: dict[str, Any] = {
        "bus": bus,
        "model": "scripted:seed=7",
        "models_dir": str(folder / "models"),
        "data_dir": str(folder / "data"),
        "listen": "127.0.0.1:0",
        "embedder": "none",
        "drain_s": 0.2,
        "job_idle_s": 30.0,
        "reattach_s": 10.0,
        **changes,
    }
    return Settings(**values)


@dataclass
class Desk:
    """A running router and a client of it."""

    app: RouterApp
    client: RetrievalClient
    settings: Settings

    @property
    def store(self) -> DocumentStore:
        return self.app.retrieval.library.store

    def spooled(self) -> list[str]:
        """Names of the spools that are left."""
        folder = Path(self.settings.data_dir) / ".spool"
        return [each.name for each in folder.glob("*.*") if each.is_dir()]

    async def sources(self) -> list[str]:
        return list((await self.client.stats(COLLECTION, sources=1000)).sources)

    async def found(self, text: str) -> list[str]:
        """Sources of the passages for a text."""
        question = SearchQuestion(text=text, collections=(COLLECTION,))
        return [passage.source for _, passage in (await self.client.search(question)).passages]

    async def ingest(
        self, files: Mapping[str, bytes | str], timeout_s: float | None = None, **options: Any
    ) -> IngestReport:
        return await self.client.ingest(parts(files, **options), timeout_s=timeout_s)


@asynccontextmanager
async def running_library(folder: Path, bus: str, **changes: Any) -> AsyncIterator[Desk]:
    """Start a router on a TCP port of its own; stop it at the end."""
    settings = library_settings(folder, bus, **changes)
    app = hola_router.app.build(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(app.stop)
        await app.start()
        client = RetrievalClient(app.address, settings)
        stack.push_async_callback(client.close)
        yield Desk(app, client, settings)


async def parts(
    files: Mapping[str, bytes | str],
    *,
    piece: int = 1000,
    end: End | None = ALL,
    collection: str = COLLECTION,
    **options: Any,
) -> AsyncGenerator[IngestPart, None]:
    """Files as bytes in small pieces, documents as text; without `end` the stream breaks off."""
    yield IngestOptions(collection=collection, **options)
    for source, content in files.items():
        if isinstance(content, str):
            yield TextDocument(source=source, text=content)
            continue
        yield FileHead(source=source)
        for start in range(0, len(content), piece):
            yield content[start : start + piece]
    if end is not None:
        yield end


async def everything(store: DocumentStore, tenant: str = TENANT) -> list[object]:
    """All of a collection's documents, in order."""
    found: list[object] = []
    after = ""
    while page := (await store.page(tenant, COLLECTION, after=after, limit=1000)).documents:
        found += page
        after = page[-1].source
    return found


def records(count: int, start: int = 0) -> bytes:
    """JSON lines of different words."""
    rows = (
        f'{{"id": {number}, "title": "T{number}", "text": "fact {number} of word{number % 97}"}}\n'
        for number in range(start, start + count)
    )
    return "".join(rows).encode()
