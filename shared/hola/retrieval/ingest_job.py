"""One ingest as the bus and the wire know it: what was asked for, how far it is, and its queue."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol

from hola.retrieval.chunking import DEFAULT_MAX_CHARS, DEFAULT_OVERLAP_CHARS
from hola.retrieval.types import DEFAULT_COLLECTION

MAX_REFUSALS = 100
MAX_PRUNE = 100


class IngestState(enum.IntEnum):
    """How far an ingest is (values as in retrieval.proto)."""

    QUEUED = 1
    RUNNING = 2
    DONE = 3
    FAILED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """What one ingest is about; ranges are in retrieval.proto.

    `prune` names what is sent whole: what came from there before and does not come now is deleted.
    `background` None leaves it to the server whether it becomes a job.
    """

    collection: str = DEFAULT_COLLECTION
    chunk_chars: int = DEFAULT_MAX_CHARS
    overlap_chars: int = DEFAULT_OVERLAP_CHARS
    prune: tuple[str, ...] = ()
    background: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHead:
    """Begins a file; `name` "" is the source, `form` "" goes by the name and the content."""

    source: str
    name: str = ""
    form: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDocument:
    """A document that is text already."""

    source: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """All has been sent; `incomplete`: but for something that was to be, so nothing is pruned."""

    incomplete: bool = False


# What a client sends: options, then files with their bytes and documents, then the end.
IngestPart = IngestOptions | FileHead | bytes | TextDocument | End


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestJob:
    """An ingest whose files lie in a spool; `digest` is that of the spool's list."""

    job_id: str
    tenant: str
    options: IngestOptions = field(default_factory=IngestOptions)
    files: int = 0
    bytes: int = 0
    digest: str = ""
    submitted_unix_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A file or record that was not taken; `reason` is the error's stable name."""

    source: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """Counts of one ingest (fields as in retrieval.proto); `job_id` "" for one that is no job.

    `refusals` has the first MAX_REFUSALS of `refused`. `reason` and `message` are a failed one's.
    """

    job_id: str = ""
    collection: str = DEFAULT_COLLECTION
    state: IngestState = IngestState.QUEUED
    files: int = 0
    files_done: int = 0
    bytes: int = 0
    added: int = 0
    unchanged: int = 0
    pruned: int = 0
    chunks: int = 0
    refused: int = 0
    refusals: tuple[Refusal, ...] = ()
    reason: str = ""
    message: str = ""
    attempts: int = 0
    submitted_unix_ms: int = 0
    updated_unix_ms: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in (IngestState.DONE, IngestState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestDelivery:
    """A job given to a worker; `attempts` counts the workers that have begun it, this one too."""

    job: IngestJob
    token: str
    attempts: int


class IngestQueue(Protocol):
    """Ingests whose spools lie in one place: each goes to one worker, to another if that one dies.

    Every method raises BusUnavailable.
    """

    async def publish(self, job: IngestJob) -> IngestReport:
        """Queue a job under its tenant; its first report.

        Raises Overloaded when the queue is at its bound, QuotaExceeded when the tenant is at its
        own, InvalidRequest on what cannot travel.
        """
        ...

    async def take(self, consumer: str, *, timeout_s: float) -> IngestDelivery | None:
        """Next job for `consumer`: first one whose worker went silent, else a new one.

        A job taken too often goes to the dead letters on the way, its report FAILED. None when
        nothing came within timeout_s.
        """
        ...

    async def renew(self, consumer: str, delivery: IngestDelivery, report: IngestReport) -> None:
        """Heartbeat, and how far it is. Raises Fenced when another consumer has it by now."""
        ...

    async def release(self, consumer: str, delivery: IngestDelivery) -> None:
        """Give a job back: the next take of any consumer gets it. Not counted as an attempt."""
        ...

    async def finish(self, consumer: str, delivery: IngestDelivery, report: IngestReport) -> None:
        """Forget the job; its last report stays for a while.

        Raises Fenced when another consumer has it by now.
        """
        ...

    async def depth(self, tenant: str = "") -> int:
        """Jobs waiting or running in this place; with `tenant` only that one's."""
        ...


class IngestReports(Protocol):
    """The reports of ingests of every place. Every method raises BusUnavailable."""

    async def report(self, tenant: str, job_id: str) -> IngestReport:
        """The present one. Raises UnknownRequest, also for another tenant's job."""
        ...

    async def reports(self, tenant: str) -> tuple[IngestReport, ...]:
        """Those of a tenant's youngest jobs, youngest first."""
        ...
