"""The ports of compression on the bus: jobs with their status, and word of new artifacts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from hola.compression.job import CompressionDelivery, CompressionJob, JobStatus, Release


class CompressionQueue(Protocol):
    """Compression jobs: each goes to one worker, and to another if that one dies.

    A job's status belongs to the worker that has the job: nobody else's word is written.
    """

    async def submit(self, job: CompressionJob, status: JobStatus) -> None:
        """Queue a job once per tenant and id, with its first status.

        Raises DuplicateRequest, Overloaded, QuotaExceeded, InvalidRequest, BusUnavailable.
        """
        ...

    async def take(self, consumer: str, *, timeout_s: float) -> CompressionDelivery | None:
        """Next job for `consumer`: first one whose worker went silent, else a new one.

        One that was delivered too often, or cannot be read, fails on the way. None when nothing
        came within timeout_s. Raises BusUnavailable.
        """
        ...

    async def report(self, consumer: str, delivery: CompressionDelivery, status: JobStatus) -> None:
        """Write how far the job is; also its heartbeat, due within the queue's idle limit.

        Raises Fenced when another worker has the job, or it was ended: stop. BusUnavailable.
        """
        ...

    async def release(
        self, consumer: str, delivery: CompressionDelivery, status: JobStatus
    ) -> None:
        """Give a job back to whoever takes next, with the status it waits with until then.

        Not counted as an attempt. Nothing happens when another worker has it by now, or it was
        ended. Raises BusUnavailable.
        """
        ...

    async def finish(self, consumer: str, delivery: CompressionDelivery, status: JobStatus) -> None:
        """Write the end and forget the job, in one step. Raises Fenced as `report`."""
        ...

    async def cancel(self, tenant: str, job_id: str) -> bool:
        """End a job; its worker learns it from its next `report`. False when it had ended.

        Raises UnknownRequest, BusUnavailable.
        """
        ...

    async def status(self, tenant: str, job_id: str) -> JobStatus:
        """Raises UnknownRequest when there is no such job of this tenant, BusUnavailable."""
        ...

    async def depth(self, tenant: str = "") -> int:
        """Jobs waiting or running; with `tenant` only that one's. Raises BusUnavailable."""
        ...


class ReleaseNews(Protocol):
    """Word of artifacts that were published. Best effort: the store is what counts."""

    def follow(self) -> AsyncGenerator[Release, None]:
        """Releases, from now on. Raises BusUnavailable when the backend goes away."""
        ...


class Releases(ReleaseNews, Protocol):
    """The same, for who also publishes."""

    async def announce(self, release: Release) -> None:
        """Tell everybody who follows. Raises BusUnavailable."""
        ...
