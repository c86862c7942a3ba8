"""One ingest's files out of the spool into a collection; the same files again change nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from hola.errors import Cancelled
from hola.retrieval.ingest import Ingester
from hola.retrieval.ingest_job import (
    MAX_REFUSALS,
    IngestJob,
    IngestOptions,
    IngestReport,
    IngestState,
)
from hola.retrieval.ports import DocumentStore
from hola.retrieval.readers.files import Read, Reader
from hola.retrieval.readers.limits import Limits
from hola.retrieval.spool import Spools
from hola.retrieval.tally import Tally, prune
from hola.telemetry import Metrics
from hola_router.library import OneEmbedder

STOP_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Works:
    """What every run needs."""

    store: DocumentStore
    embedder: OneEmbedder
    spools: Spools
    limits: Limits
    metrics: Metrics
    clock: Callable[[], int] = time.time_ns

    async def ingester(self, options: IngestOptions) -> Ingester:
        """Raises InvalidRequest for chunk sizes out of range, and as OneEmbedder.get."""
        return Ingester(
            self.store,
            await self.embedder.get(),
            max_chars=options.chunk_chars,
            overlap_chars=options.overlap_chars,
        )


class IngestRun:
    """One job on its way: `start`, look at `report`, then `result`, or `stop` before its end."""

    def __init__(self, works: Works, job: IngestJob, *, attempts: int = 0) -> None:
        self._works = works
        self._job = job
        self._attempts = attempts
        self._tally = Tally(most=MAX_REFUSALS)
        self._files_done = 0
        self._stopped = threading.Event()
        self._reader = Reader(works.limits)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin; the task ends with the ingest and raises what it fails with."""
        self._task = asyncio.create_task(self._run())
        return self._task

    def report(self, state: IngestState = IngestState.RUNNING) -> IngestReport:
        """How far it is."""
        tally, job = self._tally, self._job
        return IngestReport(
            job_id=job.job_id,
            collection=job.options.collection,
            state=state,
            files=job.files,
            files_done=self._files_done,
            bytes=job.bytes,
            added=tally.added,
            unchanged=tally.unchanged,
            pruned=tally.pruned,
            chunks=tally.chunks,
            refused=tally.refused,
            refusals=tuple(tally.refusals),
            attempts=self._attempts,
            submitted_unix_ms=job.submitted_unix_ms,
            updated_unix_ms=self._works.clock() // 1_000_000,
        )

    async def stop(self) -> None:
        """End it early, between two documents, and return when it has ended.

        What is written by then is whole; nothing is pruned. After STOP_S it is cut where it stands.
        """
        self._stopped.set()
        self._reader.interrupt()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=STOP_S)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Raises Cancelled when stopped, StoreCorrupt for files that are not what was sent,
        EmbedderMismatch, and what store, embedder and reader raise."""
        job, works, tally = self._job, self._works, self._tally
        where, counted = (job.tenant, job.options.collection), works.metrics.ingested_documents
        ingester = await works.ingester(job.options)
        await ingester.open(*where)
        with self._reader:
            async with aclosing(ingester.ingest(*where, self._documents())) as outcomes:
                async for one in outcomes:
                    tally.count(one)
                    counted.labels(one.outcome.value).inc()
        if self._stopped.is_set():
            raise Cancelled("the ingest was stopped")
        if job.options.prune and not tally.refused:
            tally.pruned = await prune(works.store, *where, job.options.prune, tally.seen)

    def _documents(self) -> Iterator[Read]:
        """Everything in the spool; blocking, for the ingester's thread."""
        spool = self._works.spools.open(self._job)
        for entry in spool.entries:
            for read in spool.read(entry, self._reader):
                if self._stopped.is_set():
                    return
                yield read
            self._files_done += 1
