"""The seams of the bus as protocols: jobs, journals, quotas, who is there, ingests, compression."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from hola.compression.queue import CompressionQueue, Releases
from hola.retrieval.ingest_job import IngestQueue, IngestReports
from hola.types import (
    DeadLetter,
    Delivery,
    GenerateJob,
    JournalEntry,
    VerifierRecord,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How many jobs wait for a drafter, how many one has taken, how many were given up."""

    waiting: int
    taken: int
    dead_letters: int


class JobQueue(Protocol):
    """Jobs for a group of drafters: each goes to one, and to another if that one dies."""

    async def publish(self, job: GenerateJob) -> None:
        """Queue a job exactly once per request id, under its tenant.

        Raises DuplicateRequest, Overloaded when the queue is at its bound, QuotaExceeded when the
        tenant is at its own, InvalidRequest on what cannot travel, BusUnavailable.
        """
        ...

    async def take(self, consumer: str, *, timeout_s: float) -> Delivery | None:
        """Next job for `consumer`: first one whose consumer went silent, else a new one.

        Among several, of the tenant with the fewest running jobs, then of the one longest not
        served. None when nothing came within timeout_s. Raises BusUnavailable.
        """
        ...

    async def renew(self, consumer: str, delivery: Delivery) -> None:
        """Heartbeat: keep a job that takes longer than the queue's idle limit, and its journal.

        Raises Fenced when another consumer has it by now, BusUnavailable.
        """
        ...

    async def release(self, consumer: str, delivery: Delivery) -> None:
        """Give a job back: the next take of any consumer gets it. Not counted as an attempt.

        Nothing happens when another consumer has it by now.
        """
        ...

    async def ack(self, delivery: Delivery) -> None:
        """The job's effect is in the journal; forget it. Idempotent."""
        ...

    async def depth(self, tenant: str = "") -> int:
        """Jobs waiting or running; with `tenant` only that one's. Raises BusUnavailable."""
        ...

    async def backlog(self) -> Backlog:
        """How the jobs of all tenants stand. Raises BusUnavailable."""
        ...

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The youngest jobs that were given up, youngest first."""
        ...

    async def replay(self, dead_letter_id: str) -> GenerateJob:
        """Queue a dead letter's job again, under its request id and with a new journal.

        The dead letter is gone then. Raises UnknownRequest when there is no such one,
        ProtocolViolation when its payload cannot be read, and as `publish`: DuplicateRequest while
        the request runs again.
        """
        ...


class Journal(Protocol):
    """One append-only record per request; position-fenced, so one writer at a time gets through."""

    async def append(self, request_id: str, entry: JournalEntry) -> None:
        """Write the next event; see `hola.bus.streams.entry_id` for the position rule.

        Raises Fenced when this position, or the end, has been written already, or the journal is
        not where this process last wrote or read it (a backend that lost its tail): stop, and do
        not acknowledge the job, unless the journal has ended. Raises UnknownRequest when it was
        never published or has expired, Overloaded at its limit (an end always fits),
        BusUnavailable.
        """
        ...

    async def cancel(self, request_id: str) -> bool:
        """End the request by writing a terminal entry past every position.

        Every later write by a drafter is then refused (Fenced), which is how it learns of it.
        False when the journal had ended already. Raises UnknownRequest.
        """
        ...

    async def has_ended(self, request_id: str) -> bool:
        """Whether the terminal entry is written, or the journal is gone; constant time.

        Unlike `read` it does not make the caller the journal's writer.
        """
        ...

    async def owner(self, request_id: str) -> str:
        """The tenant that published the request. Raises UnknownRequest, BusUnavailable."""
        ...

    async def digest(self, request_id: str) -> str:
        """The `request_digest` of the job it was published with; kept as long as the journal.

        Raises UnknownRequest, BusUnavailable.
        """
        ...

    async def attend(self, request_id: str, for_s: float) -> None:
        """Note that a client is attached to the request, at some router, for the next seconds."""
        ...

    async def is_attended(self, request_id: str) -> bool:
        """Whether a note of `attend` still holds."""
        ...

    async def read(self, request_id: str) -> list[JournalEntry]:
        """Everything written so far; empty when unknown.

        Who goes on with another drafter's journal reads it first: appends follow that read.
        """
        ...

    def follow(self, request_id: str) -> AsyncGenerator[JournalEntry, None]:
        """Everything from the start on, waiting for more until the terminal event.

        Many followers share one blocking read. Raises UnknownRequest when the request was never
        published or has expired.
        """
        ...


class Quota(Protocol):
    """Token buckets that all routers share."""

    async def spend(self, bucket: str, *, rate_per_s: float, burst: int) -> float:
        """Take one token of a bucket that holds at most `burst` and fills at `rate_per_s`.

        Returns 0.0, or the seconds until there is one (none is taken then). Raises BusUnavailable.
        """
        ...


class Registry(Protocol):
    """The verifiers that announce themselves."""

    async def announce(self, record: VerifierRecord, *, ttl_s: float) -> None:
        """Write or refresh a record; it is gone `ttl_s` seconds later. Raises BusUnavailable."""
        ...

    async def withdraw(self, address: str) -> None:
        """Remove a record. Idempotent. Raises BusUnavailable."""
        ...

    async def verifiers(self) -> tuple[VerifierRecord, ...]:
        """Those whose record holds, by address. Raises BusUnavailable."""
        ...


class Notices(Protocol):
    """Word of requests that were ended from outside, so that who runs them stops at once.

    Best effort: what is missed is found out at the next append or heartbeat.
    """

    async def ended(self, request_id: str) -> None:
        """Tell everybody who follows. Raises BusUnavailable."""
        ...

    def follow(self) -> AsyncGenerator[str, None]:
        """Request ids, from now on. Raises BusUnavailable when the backend goes away."""
        ...


class Bus(Protocol):
    """All of it on one backend: `redis://...` or `memory:`."""

    @property
    def jobs(self) -> JobQueue: ...

    @property
    def journal(self) -> Journal: ...

    @property
    def quota(self) -> Quota: ...

    @property
    def registry(self) -> Registry: ...

    @property
    def notices(self) -> Notices: ...

    @property
    def ingest_reports(self) -> IngestReports: ...

    def ingests(self, place: str) -> IngestQueue:
        """The ingests whose spools lie in one data folder (hola.retrieval.spool.place_of)."""
        ...

    @property
    def compression(self) -> CompressionQueue: ...

    @property
    def releases(self) -> Releases: ...

    async def ping(self) -> None:
        """Raises BusUnavailable."""
        ...

    async def close(self) -> None:
        """Idempotent."""
        ...
