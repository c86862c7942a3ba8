"""What a Redis server would hold, on plain containers: buses on one store are like processes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from hola.bus.memory_queue import Clock, StoredQueue
from hola.bus.memory_signal import Signal
from hola.bus.streams import START_ID
from hola.types import GenerateJob


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
    """Queues and journals of all buses on it.

    Payloads are kept as bytes, so that a value that cannot travel fails here as it does on Redis.
    `clock` is in seconds from any start, `wall` in Unix seconds.
    """

    def __init__(self, clock: Clock = time.monotonic, wall: Clock = time.time) -> None:
        self.clock = clock
        self.wall = wall
        self.queue = StoredQueue(clock, wall)
        self.ingests: dict[str, StoredQueue] = {}
        self.ingest_reports: dict[tuple[str, str], tuple[bytes, float]] = {}
        self.compression = StoredQueue(clock, wall)
        self._compression_records: dict[str, tuple[bytes, float]] = {}
        self.records: dict[str, tuple[bytes, float]] = {}
        self.buckets: dict[str, float] = {}
        self.listeners: dict[str, set[asyncio.Queue[bytes | None]]] = {}
        self._journals: dict[str, StoredJournal] = {}
        self._attended_until: dict[str, float] = {}

    def ingest_queue(self, place: str) -> StoredQueue:
        """The queue of one place."""
        return self.ingests.setdefault(place, StoredQueue(self.clock, self.wall))

    def add_journal(self, job: GenerateJob, ttl_s: float) -> None:
        """Add an empty journal; drop all that have expired."""
        now = self.clock()
        for gone in [key for key, each in self._journals.items() if each.expires_at <= now]:
            del self._journals[gone]
        self._journals[job.request_id] = StoredJournal(
            owner=job.tenant, digest=job.request_digest, expires_at=now + ttl_s
        )

    def record(self, key: str) -> bytes | None:
        """The status of a compression job; None when there is none, or it has expired."""
        payload, until = self._compression_records.get(key, (b"", 0.0))
        return payload if until > self.clock() else None

    def set_record(self, key: str, payload: bytes, ttl_s: float) -> None:
        """Write a compression job's status; drop those that have expired."""
        now, records = self.clock(), self._compression_records
        for gone in [name for name, (_, until) in records.items() if until <= now]:
            del records[gone]
        records[key] = (payload, now + ttl_s)

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
