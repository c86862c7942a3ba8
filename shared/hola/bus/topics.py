"""What is told to everybody on the bus: requests that were ended, artifacts that were published."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from hola.compression.job import Release
from hola.convert.compression import decode_release, encode_release
from hola.errors import ProtocolViolation
from hola.telemetry import get_logger

log = get_logger(__name__)

NOTICES = "ended"
RELEASES = "registry"


class Topic(Protocol):
    """A backend's way to tell everybody: hola.bus.redis_topic or hola.bus.memory_topic."""

    async def tell(self, payload: bytes) -> None:
        """Tell everybody who follows. Raises BusUnavailable."""
        ...

    def follow(self) -> AsyncGenerator[bytes]:
        """Payloads, from the first step on. Raises BusUnavailable."""
        ...

    def close(self) -> None:
        """End the followers. Idempotent."""
        ...


class TopicNotices:
    """ports.Notices on a topic."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic

    async def ended(self, request_id: str) -> None:
        """Tell everybody who follows. Raises BusUnavailable."""
        await self._topic.tell(request_id.encode())

    async def follow(self) -> AsyncGenerator[str]:
        """Request ids, from the first step on. Raises BusUnavailable."""
        async with aclosing(self._topic.follow()) as payloads:
            async for payload in payloads:
                yield payload.decode("utf-8", "replace")

    def close(self) -> None:
        """End the followers. Idempotent."""
        self._topic.close()


class TopicReleases:
    """compression.queue.Releases on a topic."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic

    async def announce(self, release: Release) -> None:
        """Tell everybody who follows. Raises BusUnavailable."""
        await self._topic.tell(encode_release(release))

    async def follow(self) -> AsyncGenerator[Release]:
        """Releases, from the first step on; what cannot be read is left out.

        Raises BusUnavailable.
        """
        async with aclosing(self._topic.follow()) as payloads:
            async for payload in payloads:
                try:
                    release = decode_release(payload)
                except ProtocolViolation as error:
                    log.warning("release_unreadable", message=error.message)
                else:
                    yield release

    def close(self) -> None:
        """End the followers. Idempotent."""
        self._topic.close()
