"""Counts the streams attached to each request and gives up a request that nobody watches."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from hola.bus.ports import Journal
from hola.errors import BusUnavailable, HolaError
from hola.telemetry import get_logger

log = get_logger(__name__)

# A client that gives up at its deadline hangs up a little before our own clock says so.
DEADLINE_SLACK_NS = 50_000_000
NOTES_PER_GRACE = 3
GIVE_UP_S = 60.0

Work = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class Attachment:
    """One stream; set `ended` once it has passed the terminal event on."""

    ended: bool = False


class Attachments:
    """Who watches what at this router. Use from one event loop.

    While a request has a stream here, the bus is told so; another router that has lost its own
    stream of the request then leaves it alone. A request without any stream for `grace_s` seconds
    is cancelled, and one whose deadline has passed by the time its stream ends at once.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        grace_s: float,
        end: Callable[[str], Awaitable[bool]] | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`end` cancels a request; None leaves it to the journal alone."""
        self._journal = journal
        self._end = end or journal.cancel
        self._grace_s = grace_s
        self._clock = clock
        self._streams: Counter[str] = Counter()
        # One task per request: it says that somebody is here, or waits for somebody to come back.
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def active_requests(self) -> int:
        """Requests with at least one stream."""
        return len(self._streams)

    @contextmanager
    def attach(self, request_id: str, *, deadline_unix_ns: int = 0) -> Iterator[Attachment]:
        """Count one stream in; on leaving without `ended`, the last one out starts the clock."""
        self._streams[request_id] += 1
        if self._streams[request_id] == 1:
            self._run(request_id, self._attend)
        attachment = Attachment()
        try:
            yield attachment
        finally:
            self._leave(request_id, attachment, deadline_unix_ns)

    def abandon(self, request_id: str, *, deadline_unix_ns: int = 0) -> None:
        """Start the clock of a request, if it is one, whose client left before it was attached."""
        if request_id not in self._streams:
            self._start_clock(request_id, deadline_unix_ns)

    async def close(self) -> None:
        """Forget all clocks: another router may yet be asked for these requests."""
        for request_id in list(self._tasks):
            self._stop(request_id)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _leave(self, request_id: str, attachment: Attachment, deadline_unix_ns: int) -> None:
        self._streams[request_id] -= 1
        if self._streams[request_id] > 0:
            return
        del self._streams[request_id]
        if attachment.ended:
            self._stop(request_id)
        else:
            self._start_clock(request_id, deadline_unix_ns)

    def _start_clock(self, request_id: str, deadline_unix_ns: int) -> None:
        if 0 < deadline_unix_ns <= self._clock() + DEADLINE_SLACK_NS:
            self._run(request_id, self._give_up)
        else:
            self._run(request_id, self._expire)

    def _run(self, request_id: str, work: Work) -> None:
        """Make `work` the request's one task; what it cannot do is logged."""
        self._stop(request_id)
        task = asyncio.create_task(_logged(request_id, work))
        self._tasks[request_id] = task
        task.add_done_callback(lambda done: self._forget(request_id, done))

    def _stop(self, request_id: str) -> None:
        task = self._tasks.pop(request_id, None)
        if task is not None and task.cancel():
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _forget(self, request_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(request_id) is task:
            del self._tasks[request_id]

    async def _attend(self, request_id: str) -> None:
        while self._grace_s > 0:
            await self._journal.attend(request_id, self._grace_s)
            await asyncio.sleep(self._grace_s / NOTES_PER_GRACE)

    async def _expire(self, request_id: str) -> None:
        """Wait the grace out, and for as long as another router says that somebody is there."""
        wait_s, attended = self._grace_s, True
        while attended:
            await asyncio.sleep(wait_s)
            wait_s = self._grace_s / NOTES_PER_GRACE
            attended = wait_s > 0 and await self._journal.is_attended(request_id)
        await self._give_up(request_id)

    async def _give_up(self, request_id: str) -> None:
        """End it; a bus that is away, or a journal that grows under the cancellation, may pass."""
        retrying = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.05, max=2),
            stop=stop_after_delay(GIVE_UP_S),
            retry=retry_if_exception_type(BusUnavailable),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                if await self._end(request_id):
                    log.info("request_given_up", request_id=request_id)


async def _logged(request_id: str, work: Work) -> None:
    try:
        await work(request_id)
    except HolaError as error:
        log.warning("attachment_not_noted", request_id=request_id, reason=error.reason)
