"""Counts the streams attached to each request and gives up a request that nobody watches."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hola.errors import HolaError
from hola.telemetry import get_logger

log = get_logger(__name__)

# A client that gives up at its deadline hangs up a little before our own clock says so.
DEADLINE_SLACK_NS = 50_000_000


@dataclass(slots=True)
class Attachment:
    """One stream; set `ended` once it has passed the terminal event on."""

    ended: bool = False


class Attachments:
    """Who watches what. Use from one event loop.

    `give_up(request_id)` is awaited when a request has had no stream for `grace_s` seconds, or at
    once when its deadline has passed by then.
    """

    def __init__(
        self,
        give_up: Callable[[str], Awaitable[object]],
        *,
        grace_s: float,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._give_up = give_up
        self._grace_s = grace_s
        self._clock = clock
        self._streams: Counter[str] = Counter()
        self._waiting: dict[str, asyncio.Task[None]] = {}

    @property
    def active_requests(self) -> int:
        """Requests with at least one stream."""
        return len(self._streams)

    @contextmanager
    def attach(self, request_id: str, *, deadline_unix_ns: int = 0) -> Iterator[Attachment]:
        """Count one stream in; on leaving without `ended`, the last one out starts the clock."""
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            waiting.cancel()
        self._streams[request_id] += 1
        attachment = Attachment()
        try:
            yield attachment
        finally:
            self._leave(request_id, attachment, deadline_unix_ns)

    async def close(self) -> None:
        """Forget all clocks: another router may yet be asked for these requests."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    def _leave(self, request_id: str, attachment: Attachment, deadline_unix_ns: int) -> None:
        self._streams[request_id] -= 1
        if self._streams[request_id] > 0:
            return
        del self._streams[request_id]
        if attachment.ended:
            return
        late = 0 < deadline_unix_ns <= self._clock() + DEADLINE_SLACK_NS
        wait_s = 0.0 if late else self._grace_s
        self._waiting[request_id] = asyncio.create_task(self._expire(request_id, wait_s))

    async def _expire(self, request_id: str, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        self._waiting.pop(request_id, None)
        try:
            await self._give_up(request_id)
        except HolaError as error:
            log.warning("request_not_given_up", request_id=request_id, reason=error.reason)
