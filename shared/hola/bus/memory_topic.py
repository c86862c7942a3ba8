"""A topic in memory: what is told reaches all who follow; behaves as hola.bus.redis_topic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from hola.bus.memory_store import MemoryStore
from hola.errors import BusUnavailable

KEPT = 1024


class MemoryTopic:
    """Payloads of one name, to those who follow by then."""

    def __init__(self, store: MemoryStore, name: str) -> None:
        self._listeners = store.listeners.setdefault(name, set())
        self._own: set[asyncio.Queue[bytes | None]] = set()

    async def tell(self, payload: bytes) -> None:
        """Tell everybody who follows; who is KEPT payloads behind misses it."""
        for listener in self._listeners:
            if listener.qsize() < KEPT:
                listener.put_nowait(payload)

    async def follow(self) -> AsyncGenerator[bytes]:
        """Payloads, from the first step on. Raises BusUnavailable when the bus is closed."""
        listener: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._listeners.add(listener)
        self._own.add(listener)
        try:
            while (payload := await listener.get()) is not None:
                yield payload
        finally:
            self._listeners.discard(listener)
            self._own.discard(listener)
        raise BusUnavailable("the bus is closed", url="memory:")

    def close(self) -> None:
        """End the followers. Idempotent."""
        for listener in self._own:
            listener.put_nowait(None)
