"""One blocking read for all the journals that a process follows; in a cluster, one per lane."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from redis.exceptions import RedisClusterException, RedisError

from hola.bus import rules
from hola.bus.follower import Feed, Follower, Item
from hola.bus.redis_link import RawEntry, RedisLink, is_lost, milliseconds
from hola.bus.rules import Continuity
from hola.bus.streams import PAYLOAD_FIELD, START_ID, is_terminal, parse_id
from hola.convert import decode_entry
from hola.errors import BusUnavailable, ProtocolViolation
from hola.types import JournalEntry

READ_CHUNK = 256
WAKE_TTL_S = 60.0
MAX_BACKOFF_S = 1.0


class JournalReader:
    """Follows journals; what is read together is a lane.

    One server reads all of them with a single XREAD. A cluster reads keys of one hash slot at a
    time, so there is a read for each of the few tags that journals have.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._name = uuid.uuid4().hex
        self._lanes: dict[str, Lane] = {}
        self._is_closed = False

    async def follow(self, request_id: str) -> AsyncGenerator[JournalEntry]:
        """See `hola.bus.redis_journal.RedisJournal.follow`."""
        if self._is_closed:
            raise BusUnavailable("the bus is closed", url=self._link.url)
        tag = self._link.keys.lane(request_id)
        name = tag if self._link.is_cluster else ""
        lane = self._lanes.get(name)
        if lane is None:
            wake = self._link.keys.wake(tag, self._name)
            lane = self._lanes.setdefault(name, Lane(self._link, wake))
        async with aclosing(lane.follow(request_id)) as entries:
            async for entry in entries:
                yield entry

    async def close(self) -> None:
        """End the reading tasks and all followers. Idempotent."""
        self._is_closed = True
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))


class Lane:
    """Reads some followed journals with a single XREAD on a connection of its own.

    A new journal interrupts the blocking read through a small wake-up stream. The reading task
    runs while there is someone to read for; after a lost connection it goes on behind the last
    entries it has seen, if they are still there.
    """

    def __init__(self, link: RedisLink, wake_key: str) -> None:
        self._link = link
        self._feeds: dict[str, Feed] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake_key = wake_key
        self._wake_id = START_ID
        self._check_at = 0.0
        self._is_closed = False

    async def follow(self, request_id: str) -> AsyncGenerator[JournalEntry]:
        """See JournalReader.follow."""
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
        """End the reading task and its followers. Idempotent."""
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
        return [(_id(raw), decode_entry(_payload(raw))) for raw in chunk]

    async def _wake(self, is_new: bool) -> None:
        """See that the reading task runs, and knows of a new journal."""
        if self._is_closed:
            raise BusUnavailable("the bus is closed", url=self._link.url)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        elif is_new:
            await self._link.call(lambda _: self._interrupt())

    async def _interrupt(self) -> None:
        commands, key = self._link.commands, self._wake_key
        await commands.xadd(key, {"p": b""}, maxlen=1, approximate=False)
        await commands.pexpire(key, milliseconds(WAKE_TTL_S))

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
        backoff_s, was_lost = 0.05, False
        while True:
            try:
                if was_lost:
                    await self._confirm()
                await self._read()
                await self._check_expired()
                return
            except (RedisError, RedisClusterException, OSError) as error:
                backoff_s, was_lost = min(2 * backoff_s, MAX_BACKOFF_S), True
                if not is_lost(error) or time.monotonic() + backoff_s > deadline:
                    raise self._link.unavailable(error) from error
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1))

    async def _confirm(self) -> None:
        """Fail the followers of journals whose last entry is not what it was.

        A server that came back, or a replica that took over, without its last moments has other
        tokens there soon, and settled or not, a follower must not go on behind the old ones.
        """
        for feed in list(self._feeds.values()):
            if feed.last_id == START_ID:
                continue
            key = self._link.keys.journal(feed.request_id)
            found = await self._link.commands.xrange(key, feed.last_id, feed.last_id)
            if not found or _payload(found[0]) != feed.last_payload:
                text = f"the journal of {feed.request_id} lost its entry {feed.last_id}"
                feed.fail(BusUnavailable(text, request_id=feed.request_id))
                self._drop(feed)

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
                payload = _payload(raw)
                feed.put((_id(raw), decode_entry(payload)), payload)
        except ProtocolViolation as error:
            # Skipping it would lose tokens without a word.
            feed.fail(error)
            self._drop(feed)
        if feed.has_ended:
            # Whoever comes from now on may find another journal there, of a replayed request.
            self._drop(feed)

    async def _check_expired(self) -> None:
        """Fail the followers of journals that are gone; no read ever tells of those."""
        if not self._feeds or time.monotonic() < self._check_at:
            return
        self._check_at = time.monotonic() + self._link.limits.block_s
        feeds = list(self._feeds.values())
        keys = [self._link.keys.journal(feed.request_id) for feed in feeds]
        if await self._link.commands.exists(*keys) == len(keys):
            return
        for feed, key in zip(feeds, keys, strict=True):
            if not await self._link.commands.exists(key):
                feed.fail(rules.unknown(feed.request_id))
                self._drop(feed)


def _id(raw: RawEntry) -> str:
    return raw[0].decode()


def _payload(raw: RawEntry) -> bytes:
    """The payload; empty, which is no journal entry, when there is none."""
    return raw[1].get(PAYLOAD_FIELD, b"")
