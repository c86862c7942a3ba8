"""Turns a client's request into a job: checks it, names it, writes its prompt."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from hola.convert import request_digest
from hola.errors import EmptyPrompt, InvalidRequest
from hola.idempotency import request_id_of_key
from hola.types import GenerateJob, GenerateRequest, RetrievalMode, RetrievalPlan
from hola.validate import (
    check_request_id,
    check_retrieval,
    check_sampling,
    check_speculation,
    check_tenant,
)
from hola_router.catalogue import Catalogue
from hola_router.naming import bus_id
from hola_router.planner import check_question


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A queued request and what was decided for it.

    `request_id` is the client's name for it, `job.request_id` that on the bus. With `is_repeat` an
    earlier call with the same idempotency key has queued it.
    """

    request_id: str
    job: GenerateJob
    is_repeat: bool = False

    @property
    def depth(self) -> RetrievalPlan:
        """How much is retrieved for it."""
        return RetrievalPlan.NONE if self.job.plan is None else self.job.plan.depth


class Intake:
    """What one router's requests become. Thread-safe, as the catalogue is."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`clock` gives Unix nanoseconds."""
        self._catalogue = catalogue
        self._clock = clock

    def read(self, request: GenerateRequest, tenant: str, timeout_s: float | None) -> Accepted:
        """The job of a request of `tenant` whose answer is waited for `timeout_s` seconds.

        May read a family's files, and runs a chat template. Raises InvalidRequest (with its
        kinds), UnknownModel.
        """
        check_tenant(tenant)
        request_id = self._name(request)
        check_sampling(request.sampling)
        check_speculation(request.speculation)
        check_retrieval(request.retrieval)
        if request.retrieval.effective_mode is not RetrievalMode.OFF:
            check_question(request.messages)
        model = self._catalogue.check(request.model)
        now = self._clock()
        job = GenerateJob(
            request_id=bus_id(tenant, request_id),
            model=model,
            prompt=self._prompt(request, model),
            sampling=request.sampling,
            speculation=request.speculation,
            accepted_unix_ns=now,
            deadline_unix_ns=0 if timeout_s is None else now + max(1, int(timeout_s * 1e9)),
            tenant=tenant,
            request_digest=request_digest(request) if request.idempotency_key else "",
        )
        return Accepted(request_id=request_id, job=job)

    def _name(self, request: GenerateRequest) -> str:
        if not request.idempotency_key:
            request_id = request.request_id or uuid.uuid4().hex
            check_request_id(request_id)
            return request_id
        made = request_id_of_key(request.idempotency_key)
        if request.request_id not in ("", made):
            raise InvalidRequest(
                "both request_id and idempotency_key are set: send one", field="idempotency_key"
            )
        return made

    def _prompt(self, request: GenerateRequest, model: str) -> str:
        if request.messages and request.prompt:
            raise InvalidRequest("both prompt and messages are set: send one", field="prompt")
        if request.messages:
            return self._catalogue.render(model, request.messages)
        if not request.prompt:
            raise EmptyPrompt("neither prompt nor messages has any text", field="prompt")
        return request.prompt
