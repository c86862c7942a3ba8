"""The bus inside one process: the semantics of the Redis one on plain containers."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from hola.bus import rules
from hola.bus.rules import Continuity, KnownEnds
from hola.bus.streams import (
    CANCEL_ID,
    SEAL_ID,
    START_ID,
    BusLimits,
    entry_id,
    is_terminal,
    parse_id,
)
from hola.convert import decode_entry, decode_job, encode_entry, encode_job, request_id_of
from hola.errors import (
    BusUnavailable,
    HolaError,
    ProtocolViolation,
    UnknownRequest,
)
from hola.telemetry import get_logger
from hola.types import Delivery, GenerateJob, JournalEntry

log = get_logger(__name__)

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
    """A queued payload; `attempts` is 0 until it is delivered."""

    token: str
    payload: bytes
    consumer: str = ""
    delivered_at: float = 0.0
    attempts: int = 0


@dataclass(slots=True)
class StoredJournal:
    """A request's entries as (id, payload), the highest id so far, and when it expires."""

    expires_at: float
    last_id: str = START_ID
    entries: list[tuple[str, bytes]] = field(default_factory=list)
    changed: Signal = field(default_factory=Signal)


class MemoryStore:
    """What a Redis server would hold: buses on one store are like processes on one server.

    Payloads are kept as bytes, so that a value that cannot travel fails here as it does there.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.jobs: OrderedDict[str, StoredJob] = OrderedDict()
        self.jobs_changed = Signal()
        self.dead_letters: deque[tuple[bytes, str]] = deque()
        self._journals: dict[str, StoredJournal] = {}
        self._attended_until: dict[str, float] = {}
        self._count = 0

    def add_job(self, payload: bytes) -> None:
        """Queue a payload."""
        self._count += 1
        token = f"{self._count}-0"
        self.jobs[token] = StoredJob(token=token, payload=payload)
        self.jobs_changed.set()

    def add_journal(self, request_id: str, ttl_s: float) -> None:
        """Add an empty journal; drop all that have expired."""
        now = self.clock()
        for gone in [key for key, each in self._journals.items() if each.expires_at <= now]:
            del self._journals[gone]
        self._journals[request_id] = StoredJournal(expires_at=now + ttl_s)

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


class MemoryJobs:
    """ports.JobQueue in memory; behaves as hola.bus.redis_jobs.RedisJobs."""

    def __init__(self, store: MemoryStore, limits: BusLimits, journal: MemoryJournal) -> None:
        self._store = store
        self._limits = limits
        self._journal = journal

    async def publish(self, job: GenerateJob) -> None:
        """Queue a job exactly once per request id, and create its journal.

        Raises DuplicateRequest, Overloaded at the queue's limit, InvalidRequest on a value that
        does not fit the wire.
        """
        payload = encode_job(job)
        if self._store.journal(job.request_id) is not None:
            raise rules.duplicate(job.request_id)
        if len(self._store.jobs) >= self._limits.queue_limit:
            raise rules.queue_full(self._limits.queue_limit)
        self._store.add_journal(job.request_id, self._limits.running_ttl_s)
        self._store.add_job(payload)

    async def take(self, consumer: str, *, timeout_s: float) -> Delivery | None:
        """Next job for `consumer`: first one whose consumer went silent, else a new one.

        A job delivered too often, or one that cannot be read, goes to the dead letters on the way
        and its journal ends in a Failure. None when nothing came within timeout_s.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            stored = self._next(consumer)
            delivery = self._open(stored) if stored else None
            left_s = deadline - time.monotonic()
            if delivery is not None or (stored is None and left_s <= 0):
                return delivery
            if stored is None:
                # In slices, so that a job gone stale meanwhile is not left waiting.
                slice_s = min(left_s, self._limits.block_s, self._limits.job_idle_s / 2)
                await self._store.jobs_changed.wait(slice_s)

    async def renew(self, consumer: str, delivery: Delivery) -> None:
        """Keep a job that takes longer than the queue's idle limit, and its journal.

        Raises Fenced when another consumer has it by now.
        """
        stored = self._store.jobs.get(delivery.token)
        if stored is None or stored.consumer != consumer:
            raise rules.delivery_lost(delivery.token, consumer)
        stored.delivered_at = self._store.clock()
        journal = self._store.journal(delivery.job.request_id)
        if journal is not None:
            expires_at = self._store.clock() + self._limits.running_ttl_s
            journal.expires_at = max(journal.expires_at, expires_at)

    async def release(self, consumer: str, delivery: Delivery) -> None:
        """Give a job back: the next take of any consumer gets it. Not counted as an attempt.

        Nothing happens when another consumer has it by now.
        """
        stored = self._store.jobs.get(delivery.token)
        if stored is not None and stored.consumer == consumer:
            stored.attempts, stored.consumer = stored.attempts - 1, ""
            stored.delivered_at = -math.inf
            self._store.jobs_changed.set()

    async def ack(self, delivery: Delivery) -> None:
        """The job's effect is in the journal; forget it. Idempotent."""
        self._store.jobs.pop(delivery.token, None)

    async def depth(self) -> int:
        """Jobs waiting or running."""
        return len(self._store.jobs)

    def _next(self, consumer: str) -> StoredJob | None:
        now, idle_s = self._store.clock(), self._limits.job_idle_s
        waiting = [job for job in self._store.jobs.values() if job.attempts == 0]
        stale = [
            job
            for job in self._store.jobs.values()
            if job.attempts > 0 and now - job.delivered_at >= idle_s
        ]
        found = next(iter(stale + waiting), None)
        if found is not None:
            found.consumer, found.delivered_at = consumer, now
            found.attempts += 1
        return found

    def _open(self, stored: StoredJob) -> Delivery | None:
        """The delivery, or None when the job had to be buried."""
        try:
            job = decode_job(stored.payload)
        except ProtocolViolation as error:
            self._give_up(stored, request_id_of(stored.payload), error)
            return None
        if stored.attempts > self._limits.max_attempts:
            self._give_up(stored, job.request_id, rules.worn_out(self._limits.max_attempts))
            return None
        return Delivery(job=job, token=stored.token, attempts=stored.attempts)

    def _give_up(self, stored: StoredJob, request_id: str, error: HolaError) -> None:
        log.error("job_given_up", request_id=request_id, reason=error.reason, message=error.message)
        try:
            self._journal.end(request_id, lambda _: rules.given_up(error))
        except (UnknownRequest, ProtocolViolation) as ended:
            log.warning("journal_not_ended", request_id=request_id, message=ended.message)
        del self._store.jobs[stored.token]
        letters = self._store.dead_letters
        letters.append((stored.payload, f"{error.reason}: {error.message}"))
        while len(letters) > self._limits.dead_letter_limit:
            letters.popleft()


class MemoryJournal:
    """ports.Journal in memory; behaves as hola.bus.redis_journal.RedisJournal."""

    def __init__(self, store: MemoryStore, limits: BusLimits) -> None:
        self._store = store
        self._limits = limits
        self._known = KnownEnds()
        self.is_closed = False

    async def append(self, request_id: str, entry: JournalEntry) -> None:
        """Write the next event; `hola.bus.streams.entry_id` has the position rule.

        A Failure's position is that after the tokens this bus has written or read. Raises Fenced
        when the position, or the end, has been written already; UnknownRequest; Overloaded at the
        entry limit (an end always fits); ProtocolViolation on an event the contract rules out.
        """
        known = self._known.get(request_id)
        self._write(request_id, entry_id(entry, known), entry)

    async def cancel(self, request_id: str) -> bool:
        """End the request past every position, so that its drafter's next append is Fenced.

        False when it had ended already. Raises UnknownRequest.
        """
        return self.end(request_id, rules.cancellation)

    def end(
        self, request_id: str, ending: Callable[[Sequence[JournalEntry]], JournalEntry]
    ) -> bool:
        """Write an ending made of all entries before it; False when the journal had ended.

        Raises UnknownRequest.
        """
        _, entries = self._load(request_id)
        if entries and is_terminal(entries[-1]):
            return False
        self._write(request_id, CANCEL_ID, ending(entries))
        return True

    async def has_ended(self, request_id: str) -> bool:
        """Whether the terminal entry is written, or the journal is gone."""
        journal = self._store.journal(request_id)
        if journal is None:
            return True
        return bool(journal.entries) and is_terminal(decode_entry(journal.entries[-1][1]))

    async def attend(self, request_id: str, for_s: float) -> None:
        """Note that a client is attached to the request, at some router, for the next seconds."""
        self._store.attend(request_id, for_s)

    async def is_attended(self, request_id: str) -> bool:
        """Whether a note of `attend` still holds."""
        return self._store.is_attended(request_id)

    async def read(self, request_id: str) -> list[JournalEntry]:
        """Everything written so far; empty when unknown. The caller may go on writing from there.

        Raises ProtocolViolation on an entry that cannot be read.
        """
        ids, entries = self._load(request_id)
        continuity = Continuity()
        for position, entry in zip(ids, entries, strict=True):
            continuity.check(entry, position)
        self._known.set(request_id, continuity.known)
        return entries

    async def follow(self, request_id: str) -> AsyncGenerator[JournalEntry]:
        """Everything from the start on, waiting for more until the terminal event.

        Raises UnknownRequest when it was never published or has expired, ProtocolViolation on an
        entry that cannot be read, BusUnavailable when the bus is closed.
        """
        continuity, index = Continuity(), 0
        while not self.is_closed:
            journal = self._store.journal(request_id)
            if journal is None:
                raise rules.unknown(request_id)
            if index == len(journal.entries):
                await journal.changed.wait(self._limits.block_s)
                continue
            entry = continuity.check(decode_entry(journal.entries[index][1]))
            index += 1
            yield entry
            if is_terminal(entry):
                return
        raise BusUnavailable("the bus is closed", url="memory:")

    def _write(self, request_id: str, position: str, entry: JournalEntry) -> None:
        payload = encode_entry(entry)
        journal = self._store.journal(request_id)
        if journal is None:
            raise rules.unknown(request_id)
        if parse_id(position) <= parse_id(journal.last_id):
            raise rules.fenced(request_id, position)
        ended = is_terminal(entry)
        if not ended and len(journal.entries) >= self._limits.journal_limit:
            raise rules.journal_full(self._limits.journal_limit)
        journal.entries.append((position, payload))
        journal.last_id = SEAL_ID if ended else position
        ttl_s = self._limits.journal_ttl_s if ended else self._limits.running_ttl_s
        journal.expires_at = self._store.clock() + ttl_s
        journal.changed.set()
        self._known.advance(request_id, position, entry)

    def _load(self, request_id: str) -> tuple[list[str], list[JournalEntry]]:
        journal = self._store.journal(request_id)
        stored = journal.entries if journal is not None else []
        return [each[0] for each in stored], [decode_entry(each[1]) for each in stored]


class MemoryBus:
    """ports.Bus without a server, for an embedded node and for tests."""

    def __init__(
        self, *, limits: BusLimits | None = None, store: MemoryStore | None = None
    ) -> None:
        """`store` shares jobs and journals with other buses; None makes a new one."""
        limits = limits or BusLimits()
        store = store or MemoryStore()
        self._journal = MemoryJournal(store, limits)
        self._jobs = MemoryJobs(store, limits, self._journal)

    @property
    def jobs(self) -> MemoryJobs:
        """The job queue."""
        return self._jobs

    @property
    def journal(self) -> MemoryJournal:
        """The token journals."""
        return self._journal

    async def ping(self) -> None:
        """Cannot fail."""

    async def close(self) -> None:
        """End followers, at the latest after one block_s. Idempotent."""
        self._journal.is_closed = True
