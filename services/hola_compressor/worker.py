"""Takes compression jobs one at a time, and writes how each of them ended."""

from __future__ import annotations

import asyncio
import random

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from hola.bus.ports import Bus
from hola.compression.job import (
    ArtifactInfo,
    CompressionDelivery,
    JobStatus,
    Release,
)
from hola.errors import (
    BusUnavailable,
    Fenced,
    HolaError,
    ProtocolViolation,
    UnknownRequest,
)
from hola.telemetry import Metrics, bound_ids, get_logger
from hola_compressor.delivery import Run, Workshop
from hola_compressor.sweep import sweep

log = get_logger(__name__)

TAKE_S = 5.0
BUS_PAUSE_S = 1.0
GIVE_BACK_S = 2.0


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
        run = Run(self._bus, self._shop, self._name, self._idle_s, delivery)
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
