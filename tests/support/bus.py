"""Jobs, events and backends for tests of the bus."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from redis.asyncio import Redis

from hola.bus.memory import MemoryBus, MemoryStore
from hola.bus.redis import RedisBus
from hola.bus.streams import BusLimits, Keys
from hola.ports import Bus
from hola.types import (
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


def job(request_id: str = "r1") -> GenerateJob:
    """A job that the bus only carries."""
    return GenerateJob(request_id=request_id, model="demo", prompt="Say something.")


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


async def followed(bus: Bus, request_id: str = "r1") -> list[JournalEntry]:
    """Everything a follower gets until the end; fails when that takes too long."""
    async with asyncio.timeout(PATIENCE_S):
        return [entry async for entry in bus.journal.follow(request_id)]


class Backend(Protocol):
    """One place that several buses, like several processes, connect to."""

    def bus(self, **limits: Any) -> Bus:
        """One more process's bus."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass for the backend."""
        ...

    async def add_job(self, payload: bytes) -> None:
        """Put a payload on the job stream as a foreign program might."""
        ...

    async def dead_letters(self) -> list[tuple[bytes, str]]:
        """Payloads given up, with the reasons."""
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

    async def add_job(self, payload: bytes) -> None:
        self._store.add_job("default", payload)

    async def dead_letters(self) -> list[tuple[bytes, str]]:
        return [(each.payload, each.reason) for each in self._store.dead_letters.values()]

    async def close(self) -> None:
        for bus in self._buses:
            await bus.close()


class RedisBackend:
    """Buses on one redis-server, under a prefix of the test's own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = f"test-{uuid.uuid4().hex}"
        self.keys = Keys(self.prefix)
        self.client = Redis.from_url(url, protocol=2)
        self._buses: list[RedisBus] = []

    def bus(self, **limits: Any) -> RedisBus:
        made = RedisBus(self.url, limits=BusLimits(**limits), prefix=self.prefix)
        self._buses.append(made)
        return made

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def add_job(self, payload: bytes) -> None:
        await self.client.xadd(self.keys.queue("default"), {"p": payload})
        await self.client.zadd(self.keys.tenants, {"default": 0})

    async def dead_letters(self) -> list[tuple[bytes, str]]:
        found: Any = await self.client.xrange(self.keys.dead_letters)
        return [(fields[b"p"], fields[b"reason"].decode()) for _, fields in found]

    async def close(self) -> None:
        for bus in self._buses:
            await bus.close()
        await self.client.aclose()
