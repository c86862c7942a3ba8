"""Writes one request's events to its journal behind the session's back, in order and once."""

from __future__ import annotations

import asyncio

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from hola import genai, tracing
from hola.bus.ports import Journal
from hola.errors import BusUnavailable, Fenced
from hola.types import Failure, GenerateEvent, JournalEntry, Summary

# Rounds the session may be ahead of a slow bus.
MAX_AHEAD = 8


class JournalWriter:
    """`put` events, while `run` appends them in a task of its own.

    So the bus's round trip overlaps with drafting and verifying. `is_ending` is true from the
    terminal event on; `entries` counts those written. `run` raises Fenced when another writer, or a
    cancellation, owns the journal, and BusUnavailable after `patience_s` of retries.
    """

    def __init__(
        self, journal: Journal, request_id: str, writer: str, *, patience_s: float
    ) -> None:
        self._journal = journal
        self._request_id = request_id
        self._writer = writer
        self._patience_s = patience_s
        self._events: asyncio.Queue[GenerateEvent | None] = asyncio.Queue(MAX_AHEAD)
        self.is_ending = False
        self.entries = 0

    async def put(self, event: GenerateEvent) -> None:
        """Hand an event over; waits only when the bus is far behind."""
        self.is_ending = self.is_ending or isinstance(event, Summary | Failure)
        await self._events.put(event)

    async def finish(self) -> None:
        """No more events: let `run` return once all of them are written."""
        await self._events.put(None)

    async def run(self) -> None:
        """Append until `finish`."""
        while (event := await self._events.get()) is not None:
            about = genai.of_message("send", "journal", self._request_id)
            with tracing.held("send journal", about, kind="producer"):
                await self._append(JournalEntry(event=event, writer=self._writer))
            self.entries += 1

    async def _append(self, entry: JournalEntry) -> None:
        retrying = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.05, max=2),
            stop=stop_after_delay(self._patience_s),
            retry=retry_if_exception_type(BusUnavailable),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                try:
                    await self._journal.append(self._request_id, entry)
                except Fenced:
                    # A connection that broke behind the write leaves our own entry in the way.
                    again = attempt.retry_state.attempt_number > 1
                    written = await self._journal.read(self._request_id) if again else []
                    if written[-1:] != [entry]:
                        raise
