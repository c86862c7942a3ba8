"""What a Redis server would hold, on plain containers: buses on one store are like processes."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from hola.bus.fairness import Turns
from hola.bus.streams import START_ID
from hola.types import GenerateJob

Clock = Callable[[], float]


class Signal:
    """Wakes everyone who waits, each time it is set."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake those who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Until the next `set`, at most timeout_s."""
        event = self._event
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return


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


@dataclass(slots=True)
class StoredJournal:
    """Whose a request is, its entries as (id, payload), the highest id so far, and its expiry."""

    owner: str
    digest: str
    expires_at: float
    last_id: str = START_ID
    entries: list[tuple[str, bytes]] = field(default_factory=list)
    changed: Signal = field(default_factory=Signal)


class MemoryStore:
    """Jobs, dead letters and journals of all buses on it.

    Payloads are kept as bytes, so that a value that cannot travel fails here as it does on Redis.
    `clock` is in seconds from any start, `wall` in Unix seconds.
    """

    def __init__(self, clock: Clock = time.monotonic, wall: Clock = time.time) -> None:
        self.clock = clock
        self.wall = wall
        self.jobs: OrderedDict[str, StoredJob] = OrderedDict()
        self.jobs_changed = Signal()
        self.turns = Turns()
        self.dead_letters: OrderedDict[str, StoredLetter] = OrderedDict()
        self.records: dict[str, tuple[bytes, float]] = {}
        self.buckets: dict[str, float] = {}
        self.listeners: set[asyncio.Queue[str | None]] = set()
        self._journals: dict[str, StoredJournal] = {}
        self._attended_until: dict[str, float] = {}
        self._count = 0

    def next_id(self) -> str:
        """An id that nothing else on this store has."""
        self._count += 1
        return f"{self._count}-0"

    def add_job(self, tenant: str, payload: bytes) -> None:
        """Queue a payload."""
        token = self.next_id()
        self.jobs[token] = StoredJob(token=token, tenant=tenant, payload=payload)
        self.turns.arrive(tenant)
        self.jobs_changed.set()

    def drop_job(self, token: str) -> None:
        """Forget a job, and its tenant's turn with its last one. Idempotent."""
        job = self.jobs.pop(token, None)
        if job is not None and not any(each.tenant == job.tenant for each in self.jobs.values()):
            self.turns.leave(job.tenant)

    def add_journal(self, job: GenerateJob, ttl_s: float) -> None:
        """Add an empty journal; drop all that have expired."""
        now = self.clock()
        for gone in [key for key, each in self._journals.items() if each.expires_at <= now]:
            del self._journals[gone]
        self._journals[job.request_id] = StoredJournal(
            owner=job.tenant, digest=job.request_digest, expires_at=now + ttl_s
        )

    def attend(self, request_id: str, for_s: float) -> None:
        """Note an attached client; drop the notes that have expired."""
        now = self.clock()
        for gone in [key for key, until in self._attended_until.items() if until <= now]:
            del self._attended_until[gone]
        self._attended_until[request_id] = now + for_s

    def is_attended(self, request_id: str) -> bool:
        """Whether a note still holds."""
        return self._attended_until.get(request_id, 0.0) > self.clock()

    def journal(self, request_id: str) -> StoredJournal | None:
        """None when there is none, or it has expired."""
        found = self._journals.get(request_id)
        return found if found is not None and found.expires_at > self.clock() else None
