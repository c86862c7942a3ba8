"""A router's document store and embedder, opened when a request first needs them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from hola.config import Settings
from hola.errors import HolaError
from hola.retrieval.data_dir import open_store
from hola.retrieval.embedder import OnnxEmbedder, open_embedder
from hola.retrieval.ports import DocumentStore
from hola.telemetry import get_logger
from hola_router.search import Searcher

log = get_logger(__name__)


class Knowledge:
    """Use from one event loop. A router that is never asked to retrieve opens nothing."""

    def __init__(self, settings: Settings, store: DocumentStore | None = None) -> None:
        """A given store is not closed."""
        self._settings = settings
        self._store = store
        self._opening = asyncio.Lock()
        self._opened = AsyncExitStack()
        self._searcher: Searcher | None = None

    async def searcher(self) -> Searcher:
        """The one searcher. An embedder that cannot be used leaves BM25, and a line in the log."""
        async with self._opening:
            if self._searcher is None:
                store = self._store or self._open_store()
                embedder = await self._open_embedder()
                self._searcher = Searcher(store, embedder, timeout_s=self._settings.rpc_timeout_s)
            return self._searcher

    async def close(self) -> None:
        """Close what was opened. Idempotent."""
        self._searcher = None
        await self._opened.aclose()

    def _open_store(self) -> DocumentStore:
        store = open_store(self._settings)
        self._opened.push_async_callback(store.close)
        return store

    async def _open_embedder(self) -> OnnxEmbedder | None:
        try:
            embedder = await asyncio.to_thread(open_embedder, self._settings)
        except HolaError as error:
            log.warning("embedder_not_loaded", reason=error.reason, message=error.message)
            return None
        if embedder is not None:
            self._opened.push_async_callback(embedder.close)
        return embedder
