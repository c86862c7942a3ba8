"""Takes ingest jobs from the bus, keeps them alive, and ends them; a dead worker's are taken up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

from hola.bus.ports import Bus
from hola.errors import (
    BusUnavailable,
    EmbedderMismatch,
    Fenced,
    HolaError,
    InvalidRequest,
    StoreCorrupt,
    UnknownCollection,
    UnknownRequest,
)
from hola.retrieval.ingest_job import IngestDelivery, IngestQueue, IngestReport, IngestState
from hola.telemetry import bound_ids, get_logger
from hola_router.ingest_run import IngestRun, Works

TAKE_S = 5.0
LOOK_S = 0.5
PAUSE_S = 1.0
BEATS_PER_IDLE = 4
LONGEST_BEAT_S = 1.0
SWEEP_S = 60.0
KEPT_S = 24 * 3600.0

# No other try will go better: the job ends here. Whatever else happens is left to the next worker.
LASTING = (EmbedderMismatch, InvalidRequest, StoreCorrupt, UnknownCollection)

log = get_logger(__name__)


class IngestWorker:
    """Runs up to `concurrency` jobs of this data folder's queue as consumer `name`.

    `idle_s` is the bus's limit after which a silent consumer's job goes to another one.
    """

    def __init__(
        self, works: Works, bus: Bus, *, name: str, concurrency: int, idle_s: float
    ) -> None:
        self._works = works
        self._bus = bus
        self._name = name
        self._concurrency = concurrency
        self._beat_s = min(idle_s / BEATS_PER_IDLE, LONGEST_BEAT_S)
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._running = 0
        works.metrics.active_ingests.labels("job").set_function(lambda: self._running)

    def start(self) -> None:
        """Begin to take jobs."""
        self._tasks = [asyncio.create_task(self._loop(i)) for i in range(self._concurrency)]
        if self._concurrency:
            self._tasks.append(asyncio.create_task(self._sweep()))

    async def close(self) -> None:
        """Give running jobs back and take no more. Idempotent."""
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _loop(self, number: int) -> None:
        consumer = f"{self._name}/{number}"
        while not self._stopping.is_set():
            try:
                # Without a place nobody has sent anything to this folder yet.
                place = await asyncio.to_thread(self._works.spools.place)
                queue = self._bus.ingests(place)
                delivery = await queue.take(consumer, timeout_s=TAKE_S) if place else None
                if delivery is not None:
                    with bound_ids(job_id=delivery.job.job_id):
                        await self._work(consumer, queue, delivery)
                elif not place:
                    await asyncio.sleep(LOOK_S)
            except HolaError as error:
                log.warning("ingest_worker_waits", reason=error.reason, message=error.message)
                await asyncio.sleep(PAUSE_S)
            except Exception as error:
                log.error("ingest_worker_failed", exc_info=error)
                await asyncio.sleep(PAUSE_S)

    async def _work(self, consumer: str, queue: IngestQueue, delivery: IngestDelivery) -> None:
        """Run a job to its end, or leave it to another worker."""
        job, ended = delivery.job, self._works.metrics.ingests.labels
        run = IngestRun(self._works, job, attempts=delivery.attempts)
        self._running += 1
        try:
            await self._run(consumer, queue, delivery, run)
        except Fenced:
            ended("lost").inc()
            log.warning("ingest_lost_to_another")
        except LASTING as error:
            await queue.finish(consumer, delivery, _failed(run, IngestState.FAILED, error))
            await asyncio.to_thread(self._works.spools.remove, job.tenant, job.job_id)
            ended("failed").inc()
            log.warning("ingest_failed", reason=error.reason, message=error.message)
        except HolaError as error:
            # Left to the next worker, with the reason for whoever watches, or gives the job up.
            with suppress(HolaError):
                told = _failed(run, IngestState.QUEUED, error)
                await queue.renew(consumer, delivery, told)
            raise
        except asyncio.CancelledError:
            await run.stop()
            with suppress(HolaError):
                await queue.release(consumer, delivery)
            raise
        else:
            await asyncio.to_thread(self._works.spools.remove, job.tenant, job.job_id)
            ended("done").inc()
            log.info("ingest_done", files=job.files)
        finally:
            self._running -= 1
            await run.stop()

    async def _run(
        self, consumer: str, queue: IngestQueue, delivery: IngestDelivery, run: IngestRun
    ) -> None:
        """Raises Fenced when another worker has the job, and what the ingest fails with."""
        task = run.start()
        while not task.done():
            try:
                await queue.renew(consumer, delivery, run.report())
            except BusUnavailable as error:
                # Another worker may take it meanwhile: both then write the same.
                log.warning("ingest_heartbeat_missed", message=error.message)
            await asyncio.wait({task}, timeout=self._beat_s)
        await task
        await queue.finish(consumer, delivery, run.report(IngestState.DONE))

    async def _sweep(self) -> None:
        """Delete, now and then, files whose ingest has ended, or never became one."""
        while True:
            try:
                await self._sweep_once()
            except HolaError as error:
                log.warning("spool_not_swept", reason=error.reason, message=error.message)
            await asyncio.sleep(SWEEP_S)

    async def _sweep_once(self) -> None:
        spools = self._works.spools
        for tenant, job_id in await asyncio.to_thread(spools.older_than, KEPT_S):
            try:
                over = (await self._bus.ingest_reports.report(tenant, job_id)).ended
            except UnknownRequest:
                over = True
            if over:
                await asyncio.to_thread(spools.remove, tenant, job_id)
        used = await asyncio.to_thread(spools.used_bytes)
        self._works.metrics.ingest_spool_bytes.set(used)


def _failed(run: IngestRun, state: IngestState, error: HolaError) -> IngestReport:
    report = run.report(state)
    return replace(report, reason=error.reason, message=error.message)
