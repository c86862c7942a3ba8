"""Takes the files of a call in: small ones are ingested at once, large ones become a job."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from hola.bus.ports import Bus
from hola.errors import (
    DeadlineExceeded,
    HolaError,
    InvalidRequest,
    QuotaExceeded,
)
from hola.retrieval.ingest_job import (
    MAX_PRUNE,
    End,
    FileHead,
    IngestJob,
    IngestOptions,
    IngestPart,
    IngestReport,
    IngestState,
    TextDocument,
)
from hola.retrieval.rules import check_names, check_sources
from hola.retrieval.spool import Spooled, SpoolWriter
from hola.telemetry import get_logger
from hola.validate import check_request_id, check_tenant
from hola_router.ingest_run import IngestRun, Works

WATCH_S = 0.5
AT_A_TIME = 4  # ingests of all tenants in calls; each may have a parsing process
RETRY_AFTER_MS = 2000

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestRules:
    """`inline_bytes` is the most that a call waits for, `calls` what a tenant may have at a time,
    `silence_s` how long a client may send nothing."""

    inline_bytes: int
    calls: int
    silence_s: float


class Ingesting:
    """The ingest calls of one router. Use from one event loop."""

    def __init__(self, works: Works, bus: Bus, rules: IngestRules) -> None:
        self._works = works
        self._bus = bus
        self._rules = rules
        self._calls: Counter[str] = Counter()
        self._places = asyncio.Semaphore(AT_A_TIME)
        self._endings: set[asyncio.Task[None]] = set()
        active = works.metrics.active_ingests.labels("call")
        active.set_function(lambda: self._calls.total())

    async def ingest(self, parts: AsyncIterator[IngestPart], *, tenant: str) -> IngestReport:
        """Read all parts, then ingest them, or queue them as a job; the report of either.

        Nothing of a call that ends before its End is ingested. One that is cancelled later leaves
        whole documents. Raises InvalidRequest for parts out of order or beyond the limits,
        DeadlineExceeded when they stop coming, QuotaExceeded with too many calls of the tenant at
        a time, Overloaded with a full spool or queue, EmbedderMismatch, and what store, embedder
        and bus raise.
        """
        with self._call_of(tenant):
            try:
                return await self._ingest(parts, tenant)
            except asyncio.CancelledError:
                self._works.metrics.ingests.labels("cancelled").inc()
                raise
            except HolaError:
                self._works.metrics.ingests.labels("failed").inc()
                raise

    async def watch(self, job_id: str, *, tenant: str) -> AsyncGenerator[IngestReport, None]:
        """A job's report now and whenever it has changed, to its end.

        Raises UnknownRequest, also for another tenant's job, BusUnavailable.
        """
        check_request_id(job_id)
        last: IngestReport | None = None
        while last is None or not last.ended:
            report = await self._bus.ingest_reports.report(tenant, job_id)
            if report != last:
                yield report
            last = report
            if not report.ended:
                await asyncio.sleep(WATCH_S)

    async def close(self) -> None:
        """Wait for what cancelled calls have left. Idempotent."""
        await asyncio.gather(*self._endings, return_exceptions=True)

    async def _ingest(self, parts: AsyncIterator[IngestPart], tenant: str) -> IngestReport:
        options = await self._options(parts, tenant)
        job_id, spools = uuid.uuid4().hex, self._works.spools
        await asyncio.to_thread(spools.place, make=True)
        begun = asyncio.ensure_future(asyncio.to_thread(spools.begin, tenant, job_id))
        left = AsyncExitStack()  # what there is to do when this call is over, however it ends
        left.push_async_callback(_discard, begun)
        try:
            writer = await asyncio.shield(begun)  # one that comes after the call's end is discarded
            end = await self._fill(writer, parts)
            if end.incomplete:
                options = replace(options, prune=())
            is_job = self._becomes_job(options, writer.sent_bytes)
            spooled = await asyncio.to_thread(writer.close, durable=is_job)
            job = self._job(job_id, tenant, options, spooled)
            if not is_job:
                run = IngestRun(self._works, job)
                left.push_async_callback(run.stop)
                return await self._finished(run)
            left.pop_all()  # the files are the job's now, also if we do not hear that it is queued
            return await self._publish(job)
        finally:
            self._later(left.aclose())

    async def _options(self, parts: AsyncIterator[IngestPart], tenant: str) -> IngestOptions:
        """The first part, checked: what cannot succeed is said before anything is sent."""
        options = await self._next(parts)
        if not isinstance(options, IngestOptions):
            raise InvalidRequest("options: they come first", field="options")
        check_tenant(tenant)
        check_names(tenant, options.collection)
        if len(options.prune) > MAX_PRUNE:
            raise InvalidRequest(f"prune has at most {MAX_PRUNE} names", field="prune")
        check_sources(options.prune)
        ingester = await self._works.ingester(options)
        await ingester.check(tenant, options.collection)
        return options

    async def _fill(self, writer: SpoolWriter, parts: AsyncIterator[IngestPart]) -> End:
        while True:
            part = await self._next(parts)
            if isinstance(part, End):
                return part
            await asyncio.to_thread(_write, writer, part)

    async def _next(self, parts: AsyncIterator[IngestPart]) -> IngestPart:
        limit_s = self._rules.silence_s
        try:
            async with asyncio.timeout(limit_s):
                return await anext(parts)
        except TimeoutError:
            raise DeadlineExceeded(f"nothing was sent for {limit_s:g} s") from None
        except StopAsyncIteration:
            raise InvalidRequest("the call ended before its `end`", field="end") from None

    def _becomes_job(self, options: IngestOptions, size: int) -> bool:
        too_large = size > self._rules.inline_bytes
        if options.background is False and too_large:
            raise InvalidRequest(
                f"{size:,} bytes are too many to wait for (limit {self._rules.inline_bytes:,}):"
                " leave background unset",
                field="background",
            )
        return too_large if options.background is None else options.background

    def _job(self, job_id: str, tenant: str, options: IngestOptions, spooled: Spooled) -> IngestJob:
        return IngestJob(
            job_id=job_id,
            tenant=tenant,
            options=options,
            files=spooled.files,
            bytes=spooled.bytes,
            digest=spooled.digest,
            submitted_unix_ms=self._works.clock() // 1_000_000,
        )

    async def _finished(self, run: IngestRun) -> IngestReport:
        async with self._places:
            await asyncio.shield(run.start())
        self._works.metrics.ingests.labels("done").inc()
        return replace(run.report(IngestState.DONE), job_id="")

    async def _publish(self, job: IngestJob) -> IngestReport:
        place = await asyncio.to_thread(self._works.spools.place)
        try:
            report = await self._bus.ingests(place).publish(job)
        except HolaError:
            await asyncio.to_thread(self._works.spools.remove, job.tenant, job.job_id)
            raise
        log.info("ingest_queued", job_id=job.job_id, files=job.files, bytes=job.bytes)
        return report

    @contextmanager
    def _call_of(self, tenant: str) -> Iterator[None]:
        if self._calls[tenant] >= self._rules.calls:
            raise QuotaExceeded(
                f"tenant {tenant} has {self._rules.calls} ingest calls at this router already",
                tenant=tenant,
                retry_after_ms=RETRY_AFTER_MS,
            )
        self._calls[tenant] += 1
        try:
            yield
        finally:
            self._calls[tenant] -= 1
            self._calls += Counter()  # drops tenants without calls

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what must not wait for, or be cut by, the end of a call."""
        task = asyncio.create_task(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)


async def _discard(begun: asyncio.Future[SpoolWriter]) -> None:
    with suppress(HolaError):  # there is nothing to discard; the call has said why
        await asyncio.to_thread((await begun).discard)


def _write(writer: SpoolWriter, part: IngestPart) -> None:
    match part:
        case FileHead():
            writer.file(part)
        case TextDocument():
            writer.document(part)
        case bytes():
            writer.data(part)
        case _:
            raise InvalidRequest("options: they come once", field="options")
