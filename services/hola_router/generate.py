"""The router's use case: validate, plan, queue a job, and follow its journal for the client."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from hola import __version__
from hola.errors import EmptyPrompt, HolaError, InvalidRequest
from hola.ports import Bus
from hola.telemetry import Metrics
from hola.types import (
    Correction,
    Failure,
    GenerateEvent,
    GenerateJob,
    GenerateRequest,
    RetrievalPlan,
    RouterInfo,
    Summary,
    Tokens,
)
from hola.validate import check_request_id, check_sampling, check_speculation
from hola_router.attachments import Attachments
from hola_router.catalogue import Catalogue
from hola_router.policy import RequestFacts, plan_retrieval

SERVICE = "router"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A queued request and what was decided for it."""

    job: GenerateJob
    plan: RetrievalPlan


class Router:
    """Accepts requests and streams their journals. Use from one event loop."""

    def __init__(
        self,
        *,
        bus: Bus,
        catalogue: Catalogue,
        detach_grace_s: float,
        metrics: Metrics | None = None,
        clock: Callable[[], int] = time.time_ns,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._bus = bus
        self._catalogue = catalogue
        self._clock = clock
        self._new_id = new_id
        self._metrics = metrics or Metrics()
        self._metrics.active_requests.labels(SERVICE).set_function(
            lambda: self._attachments.active_requests
        )
        self._attachments = Attachments(bus.journal, grace_s=detach_grace_s, clock=clock)

    async def accept(self, request: GenerateRequest, *, timeout_s: float | None = None) -> Accepted:
        """Check a request and queue it; `timeout_s` is how long anybody waits for its end.

        Raises InvalidRequest (with its kinds), UnknownModel, DuplicateRequest, Overloaded,
        BusUnavailable: nothing has been queued then.
        """
        request_id = request.request_id or self._new_id()
        try:
            # In a thread: it may read a family's files, and runs a chat template.
            accepted = await asyncio.to_thread(self._check, request, request_id, timeout_s)
            await self._bus.jobs.publish(accepted.job)
        except HolaError as error:
            self._metrics.requests.labels(SERVICE, error.reason.lower()).inc()
            raise
        return accepted

    def _check(
        self, request: GenerateRequest, request_id: str, timeout_s: float | None
    ) -> Accepted:
        check_request_id(request_id)
        check_sampling(request.sampling)
        check_speculation(request.speculation)
        model = self._catalogue.check(request.model)
        now = self._clock()
        job = GenerateJob(
            request_id=request_id,
            model=model,
            prompt=self._prompt(request, model),
            sampling=request.sampling,
            speculation=request.speculation,
            accepted_unix_ns=now,
            deadline_unix_ns=_deadline(now, timeout_s),
        )
        decision = plan_retrieval(RequestFacts(model=model, question=job.prompt))
        return Accepted(job=job, plan=decision.plan)

    async def attach(
        self, accepted: Accepted
    ) -> AsyncGenerator[tuple[GenerateEvent, RetrievalPlan | None], None]:
        """Follow an accepted request; the retrieval plan is with the first event.

        Closing the iterator behind the request's deadline cancels the request at once. In the
        metrics a request ends here, as what its client saw: its end, or "detached".
        """
        job, outcome = accepted.job, "detached"
        first: RetrievalPlan | None = accepted.plan
        events = self._follow(job.request_id, deadline_unix_ns=job.deadline_unix_ns)
        try:
            async with aclosing(events):
                async for event in events:
                    outcome = _outcome(event) or outcome
                    yield event, first
                    first = None
        finally:
            self._metrics.requests.labels(SERVICE, outcome).inc()

    async def generate(
        self, request: GenerateRequest, *, timeout_s: float | None = None
    ) -> AsyncGenerator[GenerateEvent, None]:
        """`accept` and `attach` in one."""
        accepted = await self.accept(request, timeout_s=timeout_s)
        async with aclosing(self.attach(accepted)) as events:
            async for event, _ in events:
                yield event

    async def resume(
        self, request_id: str, position: int = 0
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Started, then the tokens from output `position` on, then Summary or Failure.

        Every Correction of the request is among the events; tokens follow from its position on,
        also where that is before `position`.

        Closing the iterator before its end detaches: without any stream for the grace period the
        request is cancelled. Raises UnknownRequest, BusUnavailable, and InvalidRequest when the
        request ended before `position`.
        """
        check_request_id(request_id)
        async with aclosing(self._follow(request_id, position)) as events:
            async for event in events:
                yield event

    async def cancel(self, request_id: str) -> bool:
        """End a request; False when it had already ended. Raises UnknownRequest."""
        check_request_id(request_id)
        return await self._bus.journal.cancel(request_id)

    async def info(self) -> RouterInfo:
        """Families, by name, and how many requests are attached now."""
        return RouterInfo(
            version=__version__,
            models=await asyncio.to_thread(self._catalogue.infos),
            default_model=self._catalogue.default,
            active_requests=self._attachments.active_requests,
        )

    async def close(self) -> None:
        """Stop the clocks of detached requests. Idempotent."""
        await self._attachments.close()

    async def _follow(
        self, request_id: str, position: int = 0, *, deadline_unix_ns: int = 0
    ) -> AsyncGenerator[GenerateEvent, None]:
        with self._attachments.attach(request_id, deadline_unix_ns=deadline_unix_ns) as attachment:
            written = 0
            async with aclosing(self._bus.journal.follow(request_id)) as entries:
                async for entry in entries:
                    event = entry.event
                    if isinstance(event, Tokens):
                        written = event.position + len(event.tokens)
                    elif isinstance(event, Correction):
                        # What the client has from there on is void: it gets the tokens anew.
                        written = event.position
                        position = min(position, written)
                    attachment.ended = isinstance(event, Summary | Failure)
                    if attachment.ended and position > written:
                        raise InvalidRequest(
                            f"position {position} is past the end: {written} tokens were written",
                            field="position",
                        )
                    wanted = cut(event, position)
                    if wanted is not None:
                        yield wanted
                    if attachment.ended:
                        return

    def _prompt(self, request: GenerateRequest, model: str) -> str:
        if request.messages and request.prompt:
            raise InvalidRequest("both prompt and messages are set: send one", field="prompt")
        if request.messages:
            return self._catalogue.render(model, request.messages)
        if not request.prompt:
            raise EmptyPrompt("neither prompt nor messages has any text", field="prompt")
        return request.prompt


def cut(event: GenerateEvent, position: int) -> GenerateEvent | None:
    """The part of an event from output `position` on; None when nothing of it is left."""
    if not isinstance(event, Tokens) or event.position >= position:
        return event
    tokens = event.tokens[position - event.position :]
    return replace(event, position=position, tokens=tokens) if tokens else None


def _outcome(event: GenerateEvent) -> str:
    if isinstance(event, Summary):
        return event.finish_reason.name.lower()
    return event.reason.lower() if isinstance(event, Failure) else ""


def _deadline(now_ns: int, timeout_s: float | None) -> int:
    return 0 if timeout_s is None else now_ns + max(1, int(timeout_s * 1e9))
