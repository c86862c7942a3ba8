"""One blocking read for all the journals that a process follows."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from redis.exceptions import RedisError

from hola.bus import rules
from hola.bus.redis_link import RawEntry, RedisLink, is_lost, milliseconds
from hola.bus.rules import Continuity
from hola.bus.streams import PAYLOAD_FIELD, START_ID, is_terminal, parse_id
from hola.convert import decode_entry
from hola.errors import BusUnavailable, HolaError, ProtocolViolation
from hola.types import JournalEntry

READ_CHUNK = 256
WAKE_TTL_S = 60.0
MAX_BACKOFF_S = 1.0

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
    """One followed journal: how far it has been read, and for whom."""

    request_id: str
    last_id: str = START_ID
    followers: set[Follower] = field(default_factory=set)

    def put(self, item: Item) -> None:
        """Hand an entry to every follower."""
        self.last_id = item[0]
        for follower in self.followers:
            follower.put(item)

    def fail(self, error: HolaError) -> None:
        """End every follower."""
        for follower in self.followers:
            follower.fail(error)


class JournalReader:
    """Reads all followed journals with a single XREAD on a connection of its own.

    A new journal interrupts the blocking read through a small wake-up stream. The reading task
    runs while there is someone to read for; after a lost connection it goes on behind the last
    entries it has seen.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._feeds: dict[str, Feed] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake_key = link.keys.wake(uuid.uuid4().hex)
        self._wake_id = START_ID
        self._check_at = 0.0
        self._is_closed = False

    async def follow(self, request_id: str) -> AsyncGenerator[JournalEntry]:
        """See `hola.bus.redis_journal.RedisJournal.follow`."""
        key = self._link.keys.journal(request_id)
        if not await self._link.call(lambda _: self._link.commands.exists(key)):
            raise rules.unknown(request_id)
        follower = Follower(self._link.limits.follower_buffer)
        feed = self._feeds.get(request_id)
        is_new = feed is None
        feed = feed or self._feeds.setdefault(request_id, Feed(request_id))
        feed.followers.add(follower)
        try:
            await self._wake(is_new)
            async with aclosing(self._entries(feed, follower)) as entries:
                async for entry in entries:
                    yield entry
        finally:
            feed.followers.discard(follower)
            if not feed.followers:
                self._drop(feed)

    async def close(self) -> None:
        """End the reading task and all followers. Idempotent."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _entries(self, feed: Feed, follower: Follower) -> AsyncGenerator[JournalEntry]:
        continuity, last_id = Continuity(), START_ID
        missed: deque[Item] = deque()
        while True:
            item = missed.popleft() if missed else await follower.next()
            if item is None:
                # In one step of the event loop: what comes after `upto` goes to the buffer.
                follower.is_behind, upto = False, feed.last_id
                missed += await self._missed(feed.request_id, last_id, upto)
                if missed and missed[-1][0] != upto:
                    follower.fall_behind()
                continue
            last_id, entry = item
            yield continuity.check(entry)
            if is_terminal(entry):
                return

    async def _missed(self, request_id: str, after: str, upto: str) -> list[Item]:
        """The first READ_CHUNK entries with after < id <= upto, read from the journal."""
        if parse_id(after) >= parse_id(upto):
            return []
        key = self._link.keys.journal(request_id)
        chunk = await self._link.entries(key, f"({after}", upto, READ_CHUNK)
        if not chunk:
            raise rules.unknown(request_id)  # it expired under a slow follower
        return [_item(raw) for raw in chunk]

    async def _wake(self, is_new: bool) -> None:
        """See that the reading task runs, and knows of a new journal."""
        if self._is_closed:
            raise BusUnavailable("the bus is closed", url=self._link.url)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        elif is_new:
            await self._link.call(lambda _: self._interrupt())

    async def _interrupt(self) -> None:
        async with self._link.commands.pipeline(transaction=False) as pipeline:
            pipeline.xadd(self._wake_key, {"p": b""}, maxlen=1, approximate=False)
            pipeline.pexpire(self._wake_key, milliseconds(WAKE_TTL_S))
            await pipeline.execute()

    def _drop(self, feed: Feed) -> None:
        if self._feeds.get(feed.request_id) is feed:
            del self._feeds[feed.request_id]

    async def _run(self) -> None:
        error = BusUnavailable("the reading of journals has ended", url=self._link.url)
        try:
            while self._feeds and not self._is_closed:
                await self._read_or_reconnect()
        except BusUnavailable as lost:
            error = lost
        finally:
            for feed in self._feeds.values():
                feed.fail(error)
            self._feeds.clear()

    async def _read_or_reconnect(self) -> None:
        """One read; after a lost connection, more of them until one succeeds.

        Raises BusUnavailable when none did for reconnect_s.
        """
        deadline = time.monotonic() + self._link.limits.reconnect_s
        backoff_s = 0.05
        while True:
            try:
                await self._read()
                await self._check_expired()
                return
            except (RedisError, OSError) as error:
                backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
                if not is_lost(error) or time.monotonic() + backoff_s > deadline:
                    raise self._link.unavailable(error) from error
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1))

    async def _read(self) -> None:
        feeds = {self._link.keys.journal(each.request_id): each for each in self._feeds.values()}
        streams: dict[Any, Any] = {key: feed.last_id for key, feed in feeds.items()}
        streams[self._wake_key] = self._wake_id
        block = milliseconds(self._link.limits.block_s)
        reply = await self._link.follows.xread(streams, count=READ_CHUNK, block=block)
        for raw_key, raws in cast(list[tuple[bytes, list[RawEntry]]], reply):
            key = raw_key.decode()
            if key == self._wake_key:
                self._wake_id = raws[-1][0].decode()
            else:
                self._deliver(feeds[key], raws)

    def _deliver(self, feed: Feed, raws: list[RawEntry]) -> None:
        try:
            for raw in raws:
                feed.put(_item(raw))
        except ProtocolViolation as error:
            # Skipping it would lose tokens without a word.
            feed.fail(error)
            self._drop(feed)

    async def _check_expired(self) -> None:
        """Fail the followers of journals that are gone; no read ever tells of those."""
        if time.monotonic() < self._check_at:
            return
        self._check_at = time.monotonic() + self._link.limits.block_s
        feeds = list(self._feeds.values())
        async with self._link.commands.pipeline(transaction=False) as pipeline:
            for feed in feeds:
                pipeline.exists(self._link.keys.journal(feed.request_id))
            found = await pipeline.execute()
        for feed, exists in zip(feeds, found, strict=True):
            if not exists:
                feed.fail(rules.unknown(feed.request_id))
                self._drop(feed)


def _item(raw: RawEntry) -> Item:
    """Raises ProtocolViolation on a payload that is no journal entry."""
    entry_id, fields = raw
    return entry_id.decode(), decode_entry(fields.get(PAYLOAD_FIELD, b""))
