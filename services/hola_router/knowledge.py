"""What a request's retrieval searches: the router's library, with the embedder it has by now."""

from __future__ import annotations

from hola.errors import HolaError
from hola.retrieval.ports import DocumentStore
from hola.telemetry import get_logger
from hola_router.library import OneEmbedder
from hola_router.search import Searcher

log = get_logger(__name__)


class Knowledge:
    """Use from one event loop. Store and embedder stay the caller's to close."""

    def __init__(
        self, store: DocumentStore, embedder: OneEmbedder, *, timeout_s: float = 10.0
    ) -> None:
        """`timeout_s` bounds a search."""
        self._store = store
        self._embedder = embedder
        self._timeout_s = timeout_s

    async def searcher(self) -> Searcher:
        """A searcher. An embedder that cannot be used leaves BM25, and a line in the log."""
        try:
            embedder = await self._embedder.get()
        except HolaError as error:
            log.warning("embedder_not_loaded", reason=error.reason, message=error.message)
            embedder = None
        return Searcher(self._store, embedder, timeout_s=self._timeout_s)
