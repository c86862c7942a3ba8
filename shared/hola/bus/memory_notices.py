"""Notices of ended requests in memory; behaves as hola.bus.redis_notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from hola.bus.memory_store import MemoryStore
from hola.errors import BusUnavailable

KEPT_NOTICES = 1024


class MemoryNotices:
    """ports.Notices in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._listeners = store.listeners
        self._own: set[asyncio.Queue[str | None]] = set()

    async def ended(self, request_id: str) -> None:
        """Tell everybody who follows; who is KEPT_NOTICES behind misses it."""
        for listener in self._listeners:
            if listener.qsize() < KEPT_NOTICES:
                listener.put_nowait(request_id)

    async def follow(self) -> AsyncGenerator[str]:
        """Request ids, from the first step on. Raises BusUnavailable when the bus is closed."""
        listener: asyncio.Queue[str | None] = asyncio.Queue()
        self._listeners.add(listener)
        self._own.add(listener)
        try:
            while (request_id := await listener.get()) is not None:
                yield request_id
        finally:
            self._listeners.discard(listener)
            self._own.discard(listener)
        raise BusUnavailable("the bus is closed", url="memory:")

    def close(self) -> None:
        """End the followers. Idempotent."""
        for listener in self._own:
            listener.put_nowait(None)
