"""The router's use case: admit a request, queue its job, and follow its journal for the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from hola import __version__, genai, tracing
from hola.bus.ports import Bus
from hola.errors import (
    BusUnavailable,
    DuplicateRequest,
    HolaError,
    InvalidRequest,
    NotImplementedYet,
    Overloaded,
    UnknownRequest,
)
from hola.telemetry import Metrics, get_logger
from hola.types import (
    DEFAULT_TENANT,
    Correction,
    Failure,
    GenerateEvent,
    GenerateJob,
    GenerateRequest,
    Plan,
    RetrievalParams,
    RetrievalPlan,
    RouterInfo,
    Started,
    Summary,
    Tokens,
)
from hola.validate import check_request_id
from hola_router.attachments import Attachments
from hola_router.catalogue import Catalogue
from hola_router.gate import Gate
from hola_router.intake import Accepted, Intake
from hola_router.naming import bus_id
from hola_router.planner import Planned, Planner
from hola_router.seen import Seen
from hola_router.turnstile import Turnstile

SERVICE = "router"
DETACHED = "detached"
JOBS = "jobs"

log = get_logger(__name__)


class Router:
    """Accepts requests and streams their journals. Use from one event loop.

    It remembers nothing of a request but who is attached here: another router on the same bus can
    take any of its requests over at any time.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        catalogue: Catalogue,
        detach_grace_s: float,
        gate: Gate | None = None,
        planner: Planner | None = None,
        metrics: Metrics | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._bus = bus
        self._catalogue = catalogue
        self._intake = Intake(catalogue, clock=clock)
        self._gate = gate or Gate(bus)
        self._planner = planner
        self._turnstile = Turnstile()
        self._metrics = metrics or Metrics()
        self._metrics.requests_running.labels(SERVICE).set_function(
            lambda: self._attachments.active_requests
        )
        self._attachments = Attachments(
            bus.journal, end=self._end, grace_s=detach_grace_s, clock=clock
        )

    async def accept(
        self,
        request: GenerateRequest,
        *,
        tenant: str = DEFAULT_TENANT,
        timeout_s: float | None = None,
    ) -> Accepted:
        """Check a request and queue it; `timeout_s` is how long anybody waits for its end.

        With an idempotency key that the tenant has used before, nothing is queued and the earlier
        request is what was accepted, wherever and whenever it was. Raises InvalidRequest (with its
        kinds; also where that key came with another request), UnknownModel, DuplicateRequest,
        Overloaded, QuotaExceeded, BusUnavailable, and what `Planner.plan` raises: nothing has been
        queued then.
        """
        try:
            async with self._turnstile.turn():
                # In a thread: it may read a family's files, and runs a chat template.
                accepted = await asyncio.to_thread(self._intake.read, request, tenant, timeout_s)
                accepted = replace(accepted, is_repeat=await self._is_repeat(accepted))
                if not accepted.is_repeat:
                    await self._admit(accepted)
            # Not in the turn: it asks engines and the document store, and may take a while.
            try:
                accepted = await self._retrieved(accepted, request)
            except HolaError:
                if not accepted.is_repeat:
                    raise
                return accepted  # its stream is there, whatever has become of the store
            async with self._turnstile.turn():
                return await self._publish(accepted)
        except HolaError as error:
            self._metrics.requests.labels(SERVICE, error.reason.lower()).inc()
            raise

    async def attach(
        self, accepted: Accepted
    ) -> AsyncGenerator[tuple[GenerateEvent, RetrievalPlan | None], None]:
        """Follow an accepted request; the retrieval plan is with the first event.

        Closing the iterator behind the request's deadline cancels the request at once. In the
        metrics a request ends here, as what its first client saw: its end, or "detached".
        """
        job, outcome = accepted.job, DETACHED
        first: RetrievalPlan | None = accepted.depth
        # The deadline of a repeated call is not the request's.
        deadline = 0 if accepted.is_repeat else job.deadline_unix_ns
        events = self._follow(job.request_id, accepted.request_id, deadline_unix_ns=deadline)
        seen = Seen(job, self._metrics)
        try:
            async with aclosing(events):
                async for event in events:
                    outcome = _outcome(event) or outcome
                    if isinstance(event, Started) and event.plan is not None:
                        first = event.plan.depth  # a repeated call is told what was done
                    if not accepted.is_repeat:
                        seen.note(event)
                    yield event, first
                    first = None
        finally:
            if not accepted.is_repeat:
                self._metrics.requests.labels(SERVICE, outcome).inc()
                if outcome != DETACHED:
                    self._gate.note_end()

    async def generate(
        self, request: GenerateRequest, *, timeout_s: float | None = None
    ) -> AsyncGenerator[GenerateEvent, None]:
        """`accept` and `attach` in one."""
        accepted = await self.accept(request, timeout_s=timeout_s)
        async with aclosing(self.attach(accepted)) as events:
            async for event, _ in events:
                yield event

    async def resume(
        self, request_id: str, position: int = 0, *, tenant: str = DEFAULT_TENANT
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Started, then the tokens from output `position` on, then Summary or Failure.

        A Correction goes to every client, wherever it stands, and the stream goes back with it.
        Closing the iterator before its end detaches: without any stream for the grace period the
        request is cancelled. Raises UnknownRequest, also for one of another tenant,
        BusUnavailable, and InvalidRequest when the request ended before `position`.
        """
        known = await self._own(tenant, request_id)
        async with aclosing(self._follow(known, request_id, position)) as events:
            async for event in events:
                yield event

    async def plan(self, request: GenerateRequest, *, tenant: str = DEFAULT_TENANT) -> Plan:
        """What `accept` would retrieve for a request, and why; nothing is queued.

        Raises as `accept`, but for what concerns the queue.
        """
        read = await asyncio.to_thread(self._intake.read, request, tenant, None)
        return (await self._planned(read, request)).plan

    async def cancel(self, request_id: str, *, tenant: str = DEFAULT_TENANT) -> bool:
        """End a request; False when it had already ended.

        Raises UnknownRequest, also for one of another tenant.
        """
        known = await self._own(tenant, request_id)
        try:
            return await self._end(known)
        except UnknownRequest:
            raise _unknown(request_id) from None

    async def info(self, *, tenant: str = DEFAULT_TENANT) -> RouterInfo:
        """Families, by name, how much is going on, and what `tenant` may still begin."""
        limits, jobs = self._gate.limits(tenant), self._bus.jobs
        return RouterInfo(
            version=__version__,
            models=await asyncio.to_thread(self._catalogue.infos),
            default_model=self._catalogue.default,
            active_requests=self._attachments.active_requests,
            queue_depth=await jobs.depth(),
            queue_limit=self._gate.queue_limit,
            tenant_requests=await jobs.depth(tenant),
            tenant_limit=limits.requests,
            tenant_rate_per_s=limits.rate,
            tenant_burst=limits.burst,
        )

    async def close(self) -> None:
        """Stop the clocks of detached requests. Idempotent."""
        await self._attachments.close()

    async def _retrieved(self, accepted: Accepted, request: GenerateRequest) -> Accepted:
        """The job with its passages. Those of a repeated one count only where its first publisher
        died before the job was queued."""
        if request.retrieval == RetrievalParams():
            return accepted
        planned = await self._planned(accepted, request)
        depth = planned.plan.depth.name.lower()
        self._metrics.gate_decisions.labels("retrieval", depth).inc()
        self._metrics.retrieval_search_seconds.observe(planned.plan.search_ms / 1e3)
        self._metrics.retrieval_gate_seconds.observe(planned.plan.gate_ms / 1e3)
        job = replace(
            accepted.job,
            prompt=planned.prompt,
            plan=planned.plan,
            lookup_texts=planned.lookup_texts,
        )
        return replace(accepted, job=job)

    async def _planned(self, accepted: Accepted, request: GenerateRequest) -> Planned:
        if self._planner is None:
            raise NotImplementedYet("this router has no document store: leave retrieval out")
        job = accepted.job
        return await self._planner.plan(
            request, model=job.model, prompt=job.prompt, tenant=job.tenant
        )

    async def _admit(self, accepted: Accepted) -> None:
        """Ask the gate. An id that is taken needs no place: who sends a request again, because
        the answer was lost, must hear of that rather than of a full queue."""
        try:
            await self._gate.admit(accepted.job.tenant, accepted.job.model)
        except Overloaded:
            try:
                await self._bus.journal.owner(accepted.job.request_id)
            except UnknownRequest:
                pass
            else:
                return
            raise

    async def _publish(self, accepted: Accepted) -> Accepted:
        """Queue the job; a repeated one too, since who queued it first may have died half-way."""
        try:
            await self._send(accepted.job)
        except asyncio.CancelledError:
            # The client has gone, and the job may be in the queue.
            if not accepted.is_repeat:
                deadline = accepted.job.deadline_unix_ns
                self._attachments.abandon(accepted.job.request_id, deadline_unix_ns=deadline)
            raise
        except DuplicateRequest:
            # Not known to be one: another call with the key was faster, here or elsewhere.
            if accepted.is_repeat or await self._is_repeat(accepted):
                return replace(accepted, is_repeat=True)
            raise DuplicateRequest(
                f"request id {accepted.request_id!r} is taken", request_id=accepted.request_id
            ) from None
        return replace(accepted, is_repeat=False)

    async def _send(self, job: GenerateJob) -> None:
        """Put the job on the bus, with its trace."""
        about = genai.of_message("send", JOBS, job.request_id)
        with tracing.held(f"send {JOBS}", about, kind="producer") as span:
            await self._bus.jobs.publish(replace(job, traceparent=span.traceparent))

    async def _is_repeat(self, accepted: Accepted) -> bool:
        """Whether the job's idempotency key stands for this very request already.

        Raises InvalidRequest when it stands for another one.
        """
        digest = accepted.job.request_digest
        if not digest:
            return False
        try:
            known = await self._bus.journal.digest(accepted.job.request_id)
        except UnknownRequest:
            return False
        if known != digest:
            raise InvalidRequest(
                "idempotency_key: used before for another request; a key stands for one prompt"
                " and one set of parameters",
                field="idempotency_key",
            )
        return True

    async def _own(self, tenant: str, request_id: str) -> str:
        """The id on the bus of a request of `tenant`. Raises UnknownRequest, one text for all.

        Names keep tenants apart already; that the owner is asked as well is the second lock.
        """
        check_request_id(request_id)
        known = bus_id(tenant, request_id)
        try:
            async with self._turnstile.turn():
                owner = await self._bus.journal.owner(known)
        except UnknownRequest:
            owner = ""
        if owner != tenant:
            raise _unknown(request_id)
        return known

    async def _end(self, known: str) -> bool:
        """Cancel in the journal, then tell the drafter, which would find out a heartbeat later."""
        cancelled = await self._bus.journal.cancel(known)
        if cancelled:
            try:
                await self._bus.notices.ended(known)
            except BusUnavailable as error:
                log.warning("end_not_announced", request_id=known, message=error.message)
        return cancelled

    async def _follow(
        self, known: str, request_id: str, position: int = 0, *, deadline_unix_ns: int = 0
    ) -> AsyncGenerator[GenerateEvent, None]:
        """The journal of `known` as the client that calls it `request_id` gets it."""
        with self._attachments.attach(known, deadline_unix_ns=deadline_unix_ns) as attachment:
            try:
                async with aclosing(self._events(known, position)) as events:
                    async for event in events:
                        attachment.ended = isinstance(event, Summary | Failure)
                        yield _renamed(event, request_id)
            except UnknownRequest:
                raise _unknown(request_id) from None

    async def _events(self, known: str, position: int) -> AsyncGenerator[GenerateEvent, None]:
        """The journal's events from output `position` on, to the terminal one."""
        written = 0
        async with aclosing(self._bus.journal.follow(known)) as entries:
            async for entry in entries:
                event = entry.event
                if isinstance(event, Tokens):
                    written = event.position + len(event.tokens)
                elif isinstance(event, Correction):
                    # What the client has from there on is void: it gets the tokens anew.
                    written = event.position
                    position = min(position, written)
                elif isinstance(event, Summary | Failure) and position > written:
                    raise InvalidRequest(
                        f"position {position} is past the end: {written} tokens were written",
                        field="position",
                    )
                wanted = cut(event, position)
                if wanted is not None:
                    yield wanted


def cut(event: GenerateEvent, position: int) -> GenerateEvent | None:
    """The part of an event from output `position` on; None when nothing of it is left."""
    if not isinstance(event, Tokens) or event.position >= position:
        return event
    tokens = event.tokens[position - event.position :]
    return replace(event, position=position, tokens=tokens) if tokens else None


def _renamed(event: GenerateEvent, request_id: str) -> GenerateEvent:
    """The event with the request id that its client knows."""
    return replace(event, request_id=request_id) if isinstance(event, Started) else event


def _outcome(event: GenerateEvent) -> str:
    if isinstance(event, Summary):
        return event.finish_reason.name.lower()
    return event.reason.lower() if isinstance(event, Failure) else ""


def _unknown(request_id: str) -> UnknownRequest:
    return UnknownRequest(f"no journal of request {request_id!r}", request_id=request_id)
