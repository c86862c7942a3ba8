"""Takes compression jobs one at a time, keeps them alive, runs passes, publishes artifacts."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from hola.bus.ports import Bus
from hola.compression.job import (
    PUBLISHING,
    ArtifactInfo,
    CompressionDelivery,
    JobState,
    JobStatus,
    Release,
)
from hola.errors import (
    BusUnavailable,
    Cancelled,
    Fenced,
    HolaError,
    ProtocolViolation,
    UnknownRequest,
)
from hola.models.publish import publish
from hola.telemetry import Metrics, bound_ids, get_logger
from hola_compressor.artifacts import artifact_info, name_sources
from hola_compressor.passes import Progress
from hola_compressor.process import PassProcess
from hola_compressor.sources import Source, Sources
from hola_compressor.sweep import sweep
from hola_compressor.workdir import WorkDirs, bytes_in, check_room

log = get_logger(__name__)

TAKE_S = 5.0
BUS_PAUSE_S = 1.0
BEATS_PER_IDLE = 4
LONGEST_BEAT_S = 1.0
GIVE_BACK_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What a worker works with: sources, directories, the process of the passes, its memory."""

    sources: Sources
    works: WorkDirs
    process: PassProcess
    memory_budget_bytes: int = 0


class CompressionWorker:
    """Runs the queue's jobs as consumer `name`, one at a time. Use from one event loop.

    `idle_s` is the bus's limit after which a silent worker's job goes to another one;
    `bus_patience_s` how long a job's end waits for a bus that went away.
    """

    def __init__(
        self,
        bus: Bus,
        workshop: Workshop,
        *,
        name: str,
        idle_s: float,
        bus_patience_s: float,
        metrics: Metrics | None = None,
    ) -> None:
        self._bus = bus
        self._shop = workshop
        self._name = name
        self._idle_s = idle_s
        self._bus_patience_s = bus_patience_s
        self._metrics = metrics or Metrics()

    async def run(self) -> None:
        """Take and run jobs until cancelled; the one under way is given back then."""
        while True:
            await self._sweep()
            delivery = await self._take()
            if delivery is not None:
                with bound_ids(job_id=delivery.job.job_id):
                    await self._serve(delivery)

    async def _sweep(self) -> None:
        try:
            await sweep(self._shop.works, self._bus.compression)
        except (BusUnavailable, ProtocolViolation) as error:
            log.warning("work_not_swept", reason=error.reason, message=error.message)

    async def _take(self) -> CompressionDelivery | None:
        try:
            return await self._bus.compression.take(self._name, timeout_s=TAKE_S)
        except BusUnavailable as error:
            log.warning("bus_unavailable", message=error.message)
            await asyncio.sleep(random.uniform(0, BUS_PAUSE_S))
            return None

    async def _serve(self, delivery: CompressionDelivery) -> None:
        log.info("compression_taken", model=delivery.job.model, attempts=delivery.attempts)
        run = _Run(self._bus, self._shop, self._name, self._idle_s, delivery)
        try:
            artifact = await run.to_its_end()
        except asyncio.CancelledError:
            await self._give_back(delivery, run.status)
            raise
        except Fenced as fenced:
            await self._leave(delivery, fenced)
        except BusUnavailable as lost:
            log.warning("job_left_to_the_bus", message=lost.message)
        except HolaError as error:
            await self._finish(delivery, run.status.failed(error), None)
        except Exception as error:  # ours, not the job's: say so, and take the next one
            log.exception("compression_failed")
            wrong = HolaError(f"internal error in the compressor: {type(error).__name__}")
            await self._finish(delivery, run.status.failed(wrong), None)
        else:
            await self._finish(delivery, run.status.done(artifact), artifact)

    async def _finish(
        self, delivery: CompressionDelivery, end: JobStatus, artifact: ArtifactInfo | None
    ) -> None:
        """Write the end and tell of the artifact; a bus that stays away has another worker do it.

        What it finds then is whole: checkpoints, or the published artifact.
        """
        try:
            retrying = AsyncRetrying(
                wait=wait_random_exponential(multiplier=0.05, max=2),
                stop=stop_after_delay(self._bus_patience_s),
                retry=retry_if_exception_type(BusUnavailable),
                reraise=True,
            )
            async for attempt in retrying:
                with attempt:
                    await self._bus.compression.finish(self._name, delivery, end)
        except Fenced as fenced:
            await self._leave(delivery, fenced)
            return
        except BusUnavailable as lost:
            log.warning("job_left_to_the_bus", message=lost.message)
            return
        why = end.failure.reason if end.failure else ""
        log.info("compression_ended", state=end.state.name, reason=why)
        self._metrics.compressions.labels(end.state.name.lower()).inc()
        job = delivery.job
        await asyncio.to_thread(self._shop.works.remove, job.tenant, job.job_id)
        if artifact is not None:
            await self._announce(artifact)

    async def _announce(self, artifact: ArtifactInfo) -> None:
        """Best effort: whoever runs the family looks at the store now and then anyway."""
        release = Release(model=artifact.model, tier=artifact.tier, digest=artifact.digest)
        try:
            await self._bus.releases.announce(release)
        except BusUnavailable as lost:
            log.warning("release_not_announced", message=lost.message)

    async def _leave(self, delivery: CompressionDelivery, fenced: Fenced) -> None:
        """Another worker goes on in the job's directory, or it was ended and nobody does."""
        job = delivery.job
        log.info("fenced", message=fenced.message)
        try:
            status = await self._bus.compression.status(job.tenant, job.job_id)
            is_over = status.state.ended
        except UnknownRequest:
            is_over = True
        except BusUnavailable:
            return
        if is_over:
            await asyncio.to_thread(self._shop.works.remove, job.tenant, job.job_id)

    async def _give_back(self, delivery: CompressionDelivery, last: JobStatus) -> None:
        """This worker stops: the next one need not wait until the job has gone silent."""
        try:
            async with asyncio.timeout(GIVE_BACK_S):
                await self._bus.compression.release(self._name, delivery, last.waiting())
        except (BusUnavailable, TimeoutError) as error:
            log.warning("job_not_given_back", message=str(error))


class _Run:
    """One delivery: the work and its heartbeat side by side; who loses the job stops working."""

    def __init__(
        self,
        bus: Bus,
        shop: Workshop,
        name: str,
        idle_s: float,
        delivery: CompressionDelivery,
    ) -> None:
        self._bus = bus
        self._shop = shop
        self._name = name
        self._idle_s = idle_s
        self._pause_s = min(idle_s / BEATS_PER_IDLE, LONGEST_BEAT_S)
        self._delivery = delivery
        self._clock: Callable[[], float] = time.time
        self.status = delivery.status

    async def to_its_end(self) -> ArtifactInfo:
        """The published artifact. Raises Fenced, BusUnavailable, and what the job fails with."""
        working = asyncio.create_task(self._work())
        beating = asyncio.create_task(self._beat())
        try:
            await asyncio.wait({working, beating}, return_when=asyncio.FIRST_COMPLETED)
            if beating.done():
                beating.result()
            return await working
        except Cancelled as stopped:  # the passes found their lease ended while we had the job
            raise HolaError(f"the passes stopped by themselves: {stopped.message}") from stopped
        finally:
            for task in (working, beating):
                task.cancel()
            await asyncio.gather(working, beating, return_exceptions=True)

    async def _beat(self) -> None:
        """Write the status, over and over.

        Raises Fenced, and BusUnavailable once none was written for `idle_s`: another worker may
        have the job by then, and nobody could tell.
        """
        now = asyncio.get_running_loop().time
        heard = now()
        while True:
            asked = now()
            try:
                async with asyncio.timeout(max(heard + self._idle_s - asked, self._pause_s)):
                    await self._report()
                heard = asked
            except (BusUnavailable, TimeoutError) as error:
                log.warning("heartbeat_missed", message=str(error))
                if now() - heard >= self._idle_s:
                    message = f"no heartbeat of the job was written for {self._idle_s:g} s"
                    raise BusUnavailable(message) from error
            await asyncio.sleep(self._pause_s)

    async def _report(self) -> None:
        await self._bus.compression.report(self._name, self._delivery, self._stamped())

    async def _work(self) -> ArtifactInfo:
        job, shop = self._delivery.job, self._shop
        self._say("prepare", "finding the checkpoint")
        source = await asyncio.to_thread(shop.sources.find, job.model, job.tier)
        # A hub id is only known here, and the family may have come since the job was submitted.
        await asyncio.to_thread(shop.sources.check_tokenizers, job, source)
        work = await asyncio.to_thread(shop.works.of, job)
        plan = await asyncio.to_thread(shop.sources.local_plan, job, work)
        self._say("prepare", "predicting memory and disk")
        estimate = await shop.process.estimate(plan, source.checkpoint)
        kept = await asyncio.to_thread(bytes_in, work)
        await asyncio.to_thread(check_room, estimate, work, shop.memory_budget_bytes, kept)
        built = await shop.process.run(plan, source.checkpoint, work, self._advance)
        self._say(PUBLISHING, "writing the artifact into the store", 1.0)
        return await self._published(built, source)

    async def _published(self, built: Path, source: Source) -> ArtifactInfo:
        """Publish in a thread, which has ended when this has: it reads the job's directory.

        A job that was cancelled or lost must not get in, so the last thing before the store changes
        is one more report.
        """
        loop, stopped = asyncio.get_running_loop(), threading.Event()

        def last_look() -> None:
            if stopped.is_set():
                raise Cancelled("the worker stopped, or lost the job")
            asyncio.run_coroutine_threadsafe(self._report(), loop).result()

        writing = asyncio.create_task(asyncio.to_thread(self._publish, built, source, last_look))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            stopped.set()
            while not writing.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({writing})
            writing.exception()  # how it ended is nobody's business any more
            raise

    def _publish(self, built: Path, source: Source, last_look: Callable[[], None]) -> ArtifactInfo:
        job, sources = self._delivery.job, self._shop.sources
        publication = sources.publication(job, source)
        name_sources(built, publication)
        tier = publish(sources.store, built, publication, last_look)
        return artifact_info(sources.store.get(job.name), tier)

    def _advance(self, step: Progress) -> None:
        self._say(step.stage, step.message, step.done, step.eta_s)

    def _say(
        self, stage: str, message: str, done: float | None = None, eta_s: float | None = None
    ) -> None:
        progress = self.status.progress if done is None else min(max(done, 0.0), 1.0)
        self.status = replace(
            self.status,
            state=JobState.RUNNING,
            stage=stage,
            message=message[:200],
            progress=progress,
            eta_s=eta_s,
        )

    def _stamped(self) -> JobStatus:
        self.status = replace(self.status, updated_unix_ms=round(self._clock() * 1000))
        return self.status
