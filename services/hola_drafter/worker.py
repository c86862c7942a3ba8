"""Takes jobs from the bus, keeps them alive, and goes on where a dead drafter stopped."""

from __future__ import annotations

import asyncio
import random
from contextlib import AbstractContextManager, aclosing, suppress
from typing import Any

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from hola import genai, tracing
from hola.bus.ports import Bus
from hola.convert import failure_of
from hola.errors import BusUnavailable, Fenced, HolaError, UnknownRequest
from hola.telemetry import bound_ids, get_logger
from hola.types import Delivery, JournalEntry
from hola_drafter.drafter import Drafter
from hola_drafter.history import History
from hola_drafter.journal_writer import JournalWriter

log = get_logger(__name__)

TAKE_S = 5.0
BUS_PAUSE_S = 1.0
BEATS_PER_IDLE = 4
LONGEST_BEAT_S = 1.0
GIVE_BACK_S = 2.0


class JobWorker:
    """Runs up to `concurrency` jobs of the queue as consumer `name`.

    `idle_s` is the bus's limit after which a silent consumer's job goes to another one;
    `bus_patience_s` how long a job waits for a bus that went away.
    """

    def __init__(
        self,
        bus: Bus,
        drafter: Drafter,
        *,
        name: str,
        concurrency: int,
        idle_s: float,
        bus_patience_s: float,
    ) -> None:
        self._bus = bus
        self._drafter = drafter
        self._name = name
        self._concurrency = concurrency
        self._idle_s = idle_s
        self._bus_patience_s = bus_patience_s
        self._stopping = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()
        # What runs, each with the event that wakes its heartbeat.
        self._running: dict[str, asyncio.Event] = {}

    async def run(self, *, drain_s: float = 0.0) -> None:
        """Take and run jobs until `stop`, then give those running `drain_s` seconds.

        A job that is not done by then, or when this is cancelled, stays with the bus: the next
        drafter goes on with it. So does one that arrives in the very moment of the stop.
        """
        taking = asyncio.create_task(self._take_jobs())
        stopping = asyncio.create_task(self._stopping.wait())
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                taking.result()
            taking.cancel()
            if self._jobs:
                await asyncio.wait(self._jobs, timeout=drain_s)
        finally:
            await _end({taking, stopping, *self._jobs, listening})

    def stop(self) -> None:
        """Take no more jobs."""
        self._stopping.set()

    async def _take_jobs(self) -> None:
        while True:
            if len(self._jobs) >= self._concurrency:
                await asyncio.wait(self._jobs, return_when=asyncio.FIRST_COMPLETED)
            delivery = await self._take()
            if delivery is not None and self._is_new(delivery):
                job = asyncio.create_task(self._serve(delivery))
                self._jobs.add(job)
                job.add_done_callback(self._jobs.discard)

    async def _listen(self) -> None:
        """Have the heartbeat of a request that was ended elsewhere look at its journal at once.

        So its verifier session is closed within the round under way. A notice that is missed, or
        wrong, changes nothing: the heartbeat comes anyway, and goes by the journal alone.
        """
        while True:
            try:
                async with aclosing(self._bus.notices.follow()) as notices:
                    async for request_id in notices:
                        if request_id in self._running:
                            self._running[request_id].set()
            except BusUnavailable as error:
                log.warning("notices_missed", message=error.message)
                await asyncio.sleep(random.uniform(0, BUS_PAUSE_S))

    def _is_new(self, delivery: Delivery) -> bool:
        """False when heartbeats were late and we claimed what we run ourselves: it goes on."""
        request_id = delivery.job.request_id
        if request_id in self._running:
            log.warning("own_job_claimed", request_id=request_id, attempts=delivery.attempts)
            return False
        return True

    async def _take(self) -> Delivery | None:
        try:
            return await self._bus.jobs.take(self._name, timeout_s=TAKE_S)
        except BusUnavailable as error:
            log.warning("bus_unavailable", message=error.message)
            await asyncio.sleep(random.uniform(0, BUS_PAUSE_S))
            return None

    async def _serve(self, delivery: Delivery) -> None:
        request_id = delivery.job.request_id
        self._running[request_id] = asyncio.Event()
        with bound_ids(request_id=request_id), _traced(delivery):
            try:
                await self._run_or_leave(delivery)
            except asyncio.CancelledError:
                await self._give_back(delivery)
                raise
            except Exception:
                # One job must not take the others with it; the bus counts its deliveries.
                log.exception("job_failed", attempts=delivery.attempts)
            finally:
                self._running.pop(request_id, None)

    async def _give_back(self, delivery: Delivery) -> None:
        """This drafter stops: the next one need not wait until the job has gone silent."""
        try:
            async with asyncio.timeout(GIVE_BACK_S):
                await self._bus.jobs.release(self._name, delivery)
        except (BusUnavailable, TimeoutError) as error:
            log.warning("job_not_given_back", message=str(error))

    async def _run_or_leave(self, delivery: Delivery) -> None:
        try:
            history = History.of(await self._bus.journal.read(delivery.job.request_id))
            if not history.ended:
                await self._generate(delivery, history)
            await self._ack(delivery)
        except* Fenced:
            await self._leave_or_ack(delivery)
        except* UnknownRequest:
            # The journal has expired: nobody can read it any more.
            await self._ack(delivery)
        except* BusUnavailable as lost:
            log.warning("job_left_to_the_bus", message=str(lost.exceptions[0]))
        except* HolaError as refused:
            await self._give_up(delivery, refused)

    async def _generate(self, delivery: Delivery, history: History) -> None:
        job = delivery.job
        if history.started is not None:
            self._drafter.metrics.takeovers.inc()
            log.info("job_taken_over", tokens=len(history.committed), attempts=delivery.attempts)
        writer = JournalWriter(
            self._bus.journal, job.request_id, self._name, patience_s=self._bus_patience_s
        )
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(self._beat(delivery, writer))
            writing = group.create_task(writer.run())
            await self._drafter.run(job, writer.put, history=history)
            await writer.finish()
            await writing
            self._drafter.metrics.journal_entries.observe(history.entries + writer.entries)
            beat.cancel()

    async def _beat(self, delivery: Delivery, writer: JournalWriter) -> None:
        """Tell the bus that the job is alive; one missed beat is made up for by the next.

        Raises Fenced when the job is another drafter's, or when somebody else ended its journal: a
        drafter that waits for a verifier or a long prefill would not learn of it by appending.
        """
        request_id = delivery.job.request_id
        notice = self._running[request_id]
        while True:
            await self._rest(notice)
            try:
                await self._bus.jobs.renew(self._name, delivery)
                ended = await self._bus.journal.has_ended(request_id)
                if ended and not writer.is_ending:
                    raise Fenced("the request has been ended", request_id=request_id)
            except BusUnavailable as error:
                log.warning("heartbeat_missed", message=error.message)

    async def _rest(self, notice: asyncio.Event) -> None:
        """Until the next beat, or a notice; one that comes while we look at the journal counts."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._idle_s / BEATS_PER_IDLE, LONGEST_BEAT_S)):
                await notice.wait()
        notice.clear()

    async def _ack(self, delivery: Delivery) -> None:
        retrying = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.05, max=2),
            stop=stop_after_delay(self._bus_patience_s),
            retry=retry_if_exception_type(BusUnavailable),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                await self._bus.jobs.ack(delivery)

    async def _give_up(self, delivery: Delivery, refused: ExceptionGroup[HolaError]) -> None:
        """The journal takes no more tokens (it is full): an end still fits."""
        error = _leaf(refused)
        log.error("journal_refused", reason=error.reason, message=error.message)
        entry = JournalEntry(event=failure_of(error), writer=self._name)
        await self._bus.journal.append(delivery.job.request_id, entry)
        await self._ack(delivery)

    async def _leave_or_ack(self, delivery: Delivery) -> None:
        """Fenced: by a cancellation, which ends the job, or by its new owner, who will ack it."""
        history = History.of(await self._bus.journal.read(delivery.job.request_id))
        log.info("fenced", cancelled=history.ended)
        if history.ended:
            await self._ack(delivery)


def _traced(delivery: Delivery) -> AbstractContextManager[tracing.Span]:
    """The span of a delivery, in the trace of whoever published the job."""
    job = delivery.job
    about = genai.of_message("process", "jobs", job.request_id)
    return tracing.span(
        "process jobs",
        {**about, "hola.attempt": delivery.attempts},
        kind="consumer",
        parent=job.traceparent,
    )


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _leaf(group: ExceptionGroup[HolaError]) -> HolaError:
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, ExceptionGroup) else first
