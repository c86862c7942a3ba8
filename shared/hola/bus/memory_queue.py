"""Payloads for a group of consumers in memory; behaves as hola.bus.redis_queue."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from hola.bus import rules
from hola.bus.fairness import Turns
from hola.bus.memory_signal import Signal
from hola.bus.streams import BusLimits

Clock = Callable[[], float]


@dataclass(slots=True)
class StoredJob:
    """A queued payload of a tenant; pending from its first delivery on, also when given back."""

    token: str
    tenant: str
    payload: bytes
    consumer: str = ""
    delivered_at: float = 0.0
    attempts: int = 0
    is_pending: bool = False


@dataclass(slots=True)
class StoredLetter:
    """A payload that was given up, why, whose, and when (Unix milliseconds)."""

    payload: bytes
    reason: str
    tenant: str
    died_unix_ms: int


class StoredQueue:
    """One queue and its dead letters. `clock` is in seconds from any start, `wall` Unix seconds."""

    def __init__(self, clock: Clock, wall: Clock) -> None:
        self.jobs: OrderedDict[str, StoredJob] = OrderedDict()
        self.changed = Signal()
        self.turns = Turns()
        self.dead_letters: OrderedDict[str, StoredLetter] = OrderedDict()
        self._clock = clock
        self._wall = wall
        self._count = 0

    def put(self, tenant: str, payload: bytes) -> None:
        """Queue a payload."""
        token = self._next_id()
        self.jobs[token] = StoredJob(token=token, tenant=tenant, payload=payload)
        self.turns.arrive(tenant)
        self.changed.set()

    def depth(self, tenant: str = "") -> int:
        """Jobs waiting or running; with `tenant` only that one's."""
        return sum(tenant in ("", job.tenant) for job in self.jobs.values())

    def next(self, consumer: str, idle_s: float) -> StoredJob | None:
        """First a job whose consumer went silent for idle_s, else a new one, or None."""
        now, jobs = self._clock(), list(self.jobs.values())
        running = Counter(job.tenant for job in jobs if job.is_pending)
        rank = {tenant: i for i, tenant in enumerate(self.turns.order(running))}
        stale = [job for job in jobs if job.is_pending and now - job.delivered_at >= idle_s]
        waiting = [job for job in jobs if not job.is_pending]
        found = min(stale or waiting, key=lambda job: rank[job.tenant], default=None)
        if found is not None:
            found.consumer, found.delivered_at, found.is_pending = consumer, now, True
            found.attempts += 1
            self.turns.serve(found.tenant)
        return found

    async def wait(self, left_s: float, limits: BusLimits) -> None:
        """Until there may be a job: in slices, so that one gone stale is not left waiting."""
        await self.changed.wait(min(left_s, limits.block_s, limits.job_idle_s / 2))

    def renew(self, consumer: str, token: str) -> None:
        """Heartbeat. Raises Fenced when another consumer has the job by now."""
        stored = self.jobs.get(token)
        if stored is None or stored.consumer != consumer:
            raise rules.delivery_lost(token, consumer)
        stored.delivered_at = self._clock()

    def release(self, consumer: str, token: str) -> None:
        """Give a job back, not counted as an attempt; nothing happens when it is another's."""
        stored = self.jobs.get(token)
        if stored is not None and stored.consumer == consumer:
            stored.attempts, stored.consumer = stored.attempts - 1, ""
            stored.delivered_at = -math.inf
            self.changed.set()

    def forget(self, token: str) -> None:
        """Remove a job, and its tenant's turn with its last one. Idempotent."""
        job = self.jobs.pop(token, None)
        if job is not None and not self.depth(job.tenant):
            self.turns.leave(job.tenant)

    def bury(self, stored: StoredJob, reason: str, limit: int) -> None:
        """Move a job to the dead letters, of which `limit` are kept."""
        self.forget(stored.token)
        self.dead_letters[self._next_id()] = StoredLetter(
            payload=stored.payload,
            reason=reason,
            tenant=stored.tenant,
            died_unix_ms=round(self._wall() * 1000),
        )
        while len(self.dead_letters) > limit:
            self.dead_letters.popitem(last=False)

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._count}-0"
