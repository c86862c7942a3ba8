"""Lets so many calls at a time ask the bus: a burst waits here, in order, and not for a connection.

The bus has a few connections, and a command that finds none for seconds counts as a bus that is
gone. A thousand calls in one moment (every client of a router that died comes to the next one) are
no outage, only a wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hola.errors import Overloaded

AT_A_TIME = 8
LONGEST_WAIT_S = 30.0
RETRY_AFTER_MS = 2000


class Turnstile:
    """Use from one event loop. Who waits is bounded by the calls that the server takes."""

    def __init__(self, at_a_time: int = AT_A_TIME, longest_wait_s: float = LONGEST_WAIT_S) -> None:
        self._places = asyncio.Semaphore(at_a_time)
        self._longest_wait_s = longest_wait_s

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A place for the time of the block. Raises Overloaded when none came free in time."""
        try:
            async with asyncio.timeout(self._longest_wait_s):
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded(
                f"the router was too busy for {self._longest_wait_s:g} s to look at this call",
                retry_after_ms=RETRY_AFTER_MS,
            ) from None
        try:
            yield
        finally:
            self._places.release()
