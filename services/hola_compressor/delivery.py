"""One delivery of a compression job: its work and its heartbeat side by side, to its end.

Whoever loses the job stops working on it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hola.bus.ports import Bus
from hola.compression.job import (
    PUBLISHING,
    ArtifactInfo,
    CompressionDelivery,
    JobState,
    JobStatus,
)
from hola.errors import BusUnavailable, Cancelled, HolaError
from hola.models.publish import publish
from hola.telemetry import get_logger
from hola_compressor.artifacts import artifact_info, name_sources
from hola_compressor.passes import Progress
from hola_compressor.process import PassProcess
from hola_compressor.sources import Source, Sources
from hola_compressor.workdir import WorkDirs, bytes_in, check_room

log = get_logger(__name__)

BEATS_PER_IDLE = 4
LONGEST_BEAT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What a worker works with: sources, directories, the process of the passes, its memory."""

    sources: Sources
    works: WorkDirs
    process: PassProcess
    memory_budget_bytes: int = 0


class Run:
    """The job of `delivery`, run as consumer `name`; `status` is what was last said of it."""

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
