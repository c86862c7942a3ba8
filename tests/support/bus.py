"""Jobs, events and backends for tests of the bus."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import pytest
from redis.asyncio import Redis

from hola.bus.acl import acl_rule
from hola.bus.memory import MemoryBus, MemoryStore
from hola.bus.ports import Bus
from hola.bus.redis import RedisBus
from hola.bus.streams import BusLimits, Keys
from hola.types import (
    Correction,
    Exactness,
    Failure,
    FinishReason,
    GenerateEvent,
    GenerateJob,
    JournalEntry,
    Outcome,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)

PATIENCE_S = 10.0
POLL_S = 0.01


def job(request_id: str = "r1", tenant: str = "default") -> GenerateJob:
    """A job that the bus only carries."""
    return GenerateJob(request_id=request_id, model="demo", prompt="Say something.", tenant=tenant)


def by(writer: str, event: GenerateEvent) -> JournalEntry:
    """An entry of this writer."""
    return JournalEntry(event=event, writer=writer)


def started(request_id: str = "r1") -> Started:
    """The first event."""
    return Started(
        request_id=request_id,
        model="demo",
        tiers=("lookup", "target"),
        fingerprint="f00d",
        exactness=Exactness.EXACT,
        prompt_tokens=3,
    )


def tokens(position: int, count: int = 1, *, outcome: Outcome = Outcome.ACCEPTED) -> Tokens:
    """Tokens whose ids are their positions."""
    return Tokens(
        position=position,
        tokens=tuple(
            TokenEvent(token=position + i, text="x", tier=0, outcome=outcome) for i in range(count)
        ),
    )


def unverified(position: int, count: int = 1) -> Tokens:
    """Tokens that a Correction may void; their ids are 100 more than their positions."""
    event = tokens(position, count, outcome=Outcome.UNVERIFIED)
    return Tokens(
        position=position,
        tokens=tuple(replace(token, token=token.token + 100) for token in event.tokens),
    )


def summary(count: int) -> Summary:
    """The end after `count` tokens."""
    return Summary(finish_reason=FinishReason.LENGTH, prompt_tokens=3, completion_tokens=count)


def failure() -> Failure:
    """The end of a failed stream."""
    return Failure(reason="ENGINE_FAILURE", message="no more", grpc_code=13)


def token_ids(entries: Sequence[JournalEntry]) -> list[int]:
    """The output tokens of a journal."""
    events = [entry.event for entry in entries]
    return [each.token for event in events if isinstance(event, Tokens) for each in event.tokens]


def standing_ids(entries: Sequence[JournalEntry]) -> list[int]:
    """The output tokens of a journal that no Correction has voided."""
    found: list[int] = []
    for entry in entries:
        if isinstance(entry.event, Tokens):
            found += [each.token for each in entry.event.tokens]
        elif isinstance(entry.event, Correction):
            found = found[: entry.event.position]
    return found


async def followed(bus: Bus, request_id: str = "r1") -> list[JournalEntry]:
    """Everything a follower gets until the end; fails when that takes too long."""
    async with asyncio.timeout(PATIENCE_S):
        return [entry async for entry in bus.journal.follow(request_id)]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Poll what the server or a background task gets to, within bounds."""
    for _ in range(round(PATIENCE_S / POLL_S)):
        if await condition():
            return
        await asyncio.sleep(POLL_S)
    pytest.fail(f"{condition.__name__} did not become true in {PATIENCE_S} s")


class Backend(Protocol):
    """One place that several buses, like several processes, connect to."""

    def bus(self, **limits: Any) -> Bus:
        """One more process's bus."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass for the backend."""
        ...

    async def add_compression(self, payload: bytes) -> None:
        """Put a payload on the stream of compression jobs as a foreign program might."""
        ...

    async def add_job(self, payload: bytes) -> None:
        """Put a payload on the job stream as a foreign program might."""
        ...

    async def dead_letters(self) -> list[tuple[bytes, str]]:
        """Payloads given up, with the reasons."""
        ...

    async def compression_letters(self) -> list[bytes]:
        """Payloads of compression jobs that were given up."""
        ...

    async def tenants(self) -> set[str]:
        """Tenants that the queue knows of."""
        ...

    async def add_record(self, address: str, payload: bytes) -> None:
        """Put a payload in the registry as a foreign program might."""
        ...

    async def close(self) -> None:
        """Close every bus that was made."""
        ...


class MemoryBackend:
    """Buses on one MemoryStore whose clock the test moves."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._store = MemoryStore(clock=lambda: self._now)
        self._buses: list[MemoryBus] = []

    def bus(self, **limits: Any) -> MemoryBus:
        made = MemoryBus(limits=BusLimits(**limits), store=self._store)
        self._buses.append(made)
        return made

    async def pass_time(self, seconds: float) -> None:
        self._now += seconds

    async def add_compression(self, payload: bytes) -> None:
        self._store.compression.put("default", payload)

    async def add_job(self, payload: bytes) -> None:
        self._store.queue.put("default", payload)

    async def dead_letters(self) -> list[tuple[bytes, str]]:
        return [(each.payload, each.reason) for each in self._store.queue.dead_letters.values()]

    async def compression_letters(self) -> list[bytes]:
        return [each.payload for each in self._store.compression.dead_letters.values()]

    async def tenants(self) -> set[str]:
        return set(self._store.queue.turns.order({}))

    async def add_record(self, address: str, payload: bytes) -> None:
        self._store.records[address] = (payload, self._now + PATIENCE_S)

    async def close(self) -> None:
        for bus in self._buses:
            await bus.close()


class RedisBackend:
    """Buses on one redis-server, under a prefix of the test's own."""

    def __init__(self, url: str, *, client_url: str = "") -> None:
        """`client_url` is for looking behind the scenes where `url` is not one server's."""
        self.url = url
        self.prefix = f"test-{uuid.uuid4().hex}"
        self.keys = Keys(self.prefix)
        self.client = Redis.from_url(client_url or url, protocol=2)
        self._buses: list[RedisBus] = []

    def bus(self, **limits: Any) -> RedisBus:
        made = RedisBus(self.url, limits=BusLimits(**limits), prefix=self.prefix)
        self._buses.append(made)
        return made

    async def confine(self) -> None:
        """From now on buses connect as a user who may do what the documented rule allows."""
        rule = f"reset on >s3cret {acl_rule(self.prefix)}"
        await self.client.execute_command("ACL", "SETUSER", self.prefix, *rule.split())
        self.url = self.url.replace("//", f"//{self.prefix}:s3cret@", 1)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def add_compression(self, payload: bytes) -> None:
        keys = self.keys.compression
        await self.client.xadd(keys.queue("default"), {"p": payload})
        await self.client.zadd(keys.tenants, {"default": 0})

    async def add_job(self, payload: bytes) -> None:
        await self.client.xadd(self.keys.queue("default"), {"p": payload})
        await self.client.zadd(self.keys.tenants, {"default": 0})

    async def dead_letters(self) -> list[tuple[bytes, str]]:
        found: Any = await self.client.xrange(self.keys.dead_letters)
        return [(fields[b"p"], fields[b"reason"].decode()) for _, fields in found]

    async def compression_letters(self) -> list[bytes]:
        found: Any = await self.client.xrange(self.keys.compression.dead_letters)
        return [fields[b"p"] for _, fields in found]

    async def tenants(self) -> set[str]:
        queues = {key.decode() async for key in self.client.scan_iter(f"{self.keys.queues}*")}
        members = await self.client.zrange(self.keys.tenants, 0, -1)
        jobs = sum([await self.client.xlen(queue) for queue in queues])
        assert await self.client.hlen(self.keys.queued) == jobs  # type: ignore[misc]
        names = {queue.removeprefix(self.keys.queues) for queue in queues}
        return names | {member.decode() for member in members} - {""}

    async def add_record(self, address: str, payload: bytes) -> None:
        until, records = self.keys.registry
        await self.client.zadd(until, {address: (time.time() + PATIENCE_S) * 1000})
        await self.client.hset(records, address, payload)  # type: ignore[misc]

    async def close(self) -> None:
        for bus in self._buses:
            await bus.close()
        await self.client.aclose()
