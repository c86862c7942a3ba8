"""One reader of a journal, and the feed that several readers of it share."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from hola.bus.streams import START_ID, is_terminal
from hola.errors import HolaError
from hola.types import JournalEntry

Item = tuple[str, JournalEntry]


class Follower:
    """One consumer of a journal: a bounded buffer, filled by the reader's task."""

    def __init__(self, buffer: int) -> None:
        self.is_behind = True  # entries before the feed's place have to be read from the journal
        self._buffer = buffer
        self._items: deque[Item] = deque()
        self._error: HolaError | None = None
        self._something = asyncio.Event()

    def put(self, item: Item) -> None:
        """Hand over an entry; beyond the buffer it is left in the journal for later."""
        if len(self._items) >= self._buffer:
            self.is_behind = True
        if not self.is_behind:
            self._items.append(item)
            self._something.set()

    def fall_behind(self) -> None:
        """Empty the buffer: what is in it comes out of the journal, after what lies before it."""
        self.is_behind = True
        self._items.clear()

    def fail(self, error: HolaError) -> None:
        """End the follower, after what is in its buffer."""
        self._error = error
        self._something.set()

    async def next(self) -> Item | None:
        """The next entry, or None when it has to be read from the journal.

        Raises the error the follower ended with. The wait is bounded: the reader fails its
        followers when the journal expires, when Redis stays away, and when it ends itself.
        """
        while not self._items:
            if self._error is not None:
                raise self._error
            if self.is_behind:
                return None
            self._something.clear()
            await self._something.wait()
        return self._items.popleft()


@dataclass(slots=True)
class Feed:
    """One followed journal: how far it has been read, what stands there, and for whom."""

    request_id: str
    last_id: str = START_ID
    last_payload: bytes = b""
    has_ended: bool = False
    followers: set[Follower] = field(default_factory=set)

    def put(self, item: Item, payload: bytes) -> None:
        """Hand an entry to every follower."""
        self.last_id, self.last_payload = item[0], payload
        self.has_ended = is_terminal(item[1])
        for follower in self.followers:
            follower.put(item)

    def fail(self, error: HolaError) -> None:
        """End every follower."""
        for follower in self.followers:
            follower.fail(error)
