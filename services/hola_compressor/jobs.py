"""The use case of a compressor: who may ask, what is checked, and how a job is watched."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import asdict
from functools import partial

from hola.bus.ports import Bus
from hola.compression.job import (
    ArtifactInfo,
    CompressionJob,
    JobState,
    JobStatus,
    check_job,
    plan_of_json,
    refuse_paths,
)
from hola.compression.plan import Plan
from hola.compression.request import JobRequest, Submitted
from hola.errors import BudgetInfeasible, InvalidRequest, PermissionDenied
from hola.extras import check_installed
from hola.models.manifest import NAME
from hola.security.caller import Caller, CallerKind
from hola.types import DEFAULT_TENANT
from hola_compressor.artifacts import artifacts, report_text
from hola_compressor.delivery import Workshop
from hola_compressor.passes import Estimate
from hola_compressor.sources import DRAFT_TIER, Source
from hola_compressor.workdir import check_room

LOOK_S = 0.5
_PASSES_NEED = ("torch", "transformers")


class Compressor:
    """Submits, follows and ends jobs, and shows what they made. Use from one event loop."""

    def __init__(self, bus: Bus, workshop: Workshop, allowed_tenants: frozenset[str]) -> None:
        self._bus = bus
        self._shop = workshop
        self._allowed = allowed_tenants
        # A prediction is a process that imports torch: one at a time.
        self._predicting = asyncio.Semaphore(1)

    def tenant_of(self, caller: Caller) -> str:
        """Whose jobs the caller may touch. Raises PermissionDenied.

        Artifacts are what every tenant's text is made with, so clients may do this only where
        HOLA_COMPRESS_TENANTS names their tenant.
        """
        if caller.kind is CallerKind.CLIENT and caller.tenant not in self._allowed:
            raise PermissionDenied(
                f"tenant {caller.tenant} may not use the compressor: HOLA_COMPRESS_TENANTS names"
                " who may",
                tenant=caller.tenant,
            )
        return caller.tenant

    async def submit(self, request: JobRequest, *, tenant: str = DEFAULT_TENANT) -> Submitted:
        """Check, predict and queue a job.

        Raises InvalidRequest, UnknownModel, ArtifactInvalid, ArtifactCorrupt,
        UnsupportedArchitecture, TokenizerMismatch, BudgetInfeasible, MemoryBudgetExceeded,
        NoDiskSpace, MissingExtra, DuplicateRequest, Overloaded, BusUnavailable.
        """
        for module in _PASSES_NEED:
            check_installed(module, "compress")
        plan = plan_of_json(_with_budget(request))
        sources = self._shop.sources
        if not sources.paths:
            refuse_paths(plan)
        if plan.draft_for is not None:
            await asyncio.to_thread(sources.target, plan.draft_for)
        is_here = sources.known(request.model)
        if not is_here:
            sources.check_hub(request.model)
        job = check_job(self._job(request, plan, tenant))
        if is_here:
            source = await asyncio.to_thread(sources.find, job.model, job.tier)
            estimate = await self._predict(job, source)
        else:  # a hub id: its worker downloads it, and predicts then
            estimate = Estimate(memory_bytes=0, disk_bytes=0, smallest_bytes=0)
        now_ms = round(time.time() * 1000)
        waiting = JobStatus(job_id=job.job_id, state=JobState.QUEUED, updated_unix_ms=now_ms)
        await self._bus.compression.submit(job, waiting)
        return Submitted(job_id=job.job_id, **asdict(estimate))

    async def watch(
        self, job_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> AsyncGenerator[JobStatus]:
        """The job's status now and at every change, an ended one last.

        Raises UnknownRequest, BusUnavailable.
        """
        last: JobStatus | None = None
        while last is None or not last.state.ended:
            status = await self._bus.compression.status(tenant, job_id)
            if status != last:
                yield status
            last = status
            if not status.state.ended:
                await asyncio.sleep(LOOK_S)

    async def cancel(self, job_id: str, *, tenant: str = DEFAULT_TENANT) -> bool:
        """End a job; False when it had ended. Raises UnknownRequest, BusUnavailable."""
        return await self._bus.compression.cancel(tenant, job_id)

    async def artifacts(self, model: str = "") -> tuple[ArtifactInfo, ...]:
        """By family, then tier. Raises UnknownModel."""
        return await asyncio.to_thread(artifacts, self._shop.sources.store, model)

    async def report(self, model: str, tier: str = "") -> tuple[ArtifactInfo, str]:
        """An artifact and its report.json. Raises as `report_text`."""
        return await asyncio.to_thread(report_text, self._shop.sources.store, model, tier)

    def _job(self, request: JobRequest, plan: Plan, tenant: str) -> CompressionJob:
        if not request.model:
            raise InvalidRequest("model is empty: name a family of the store", field="model")
        tier = request.publish_tier or (DRAFT_TIER if plan.draft_for else request.tier)
        name = request.name or self._default_name(request, plan)
        if not tier:
            tier = self._target_tier(request.model)
        for field, value in (("name", name), ("publish_tier", tier)):
            if not NAME.fullmatch(value):
                raise InvalidRequest(
                    f"{field} is {value[:80]!r}, expected {NAME.pattern}", field=field
                )
        return CompressionJob(
            job_id=request.job_id or uuid.uuid4().hex,
            tenant=tenant,
            model=request.model,
            tier=request.tier,
            plan=plan,
            calibration=request.calibration,
            calibration_is_jsonl=request.calibration_is_jsonl,
            name=name,
            publish_tier=tier,
        )

    def _default_name(self, request: JobRequest, plan: Plan) -> str:
        name = f"{self._shop.sources.called(plan.draft_for or request.model)}-lobi"
        if not NAME.fullmatch(name):
            raise InvalidRequest(
                f"no family can be called {name[:80]!r}: name the one that gets the artifact"
                " (--name FAMILY)",
                field="name",
            )
        return name

    def _target_tier(self, model: str) -> str:
        """The name of what is compressed by default: a family's target."""
        sources = self._shop.sources
        is_family = "/" not in model and model in sources.store.names()
        return sources.store.get(model).target.name if is_family else "target"

    async def _predict(self, job: CompressionJob, source: Source) -> Estimate:
        """Raises what makes the job impossible, before it costs anything."""
        shop = self._shop
        await asyncio.to_thread(shop.sources.check_tokenizers, job, source)
        parameters = await asyncio.to_thread(lambda: source.parameters)
        async with self._predicting:
            estimate = await shop.process.estimate(job.plan, source.checkpoint)
        budget = job.plan.budget_bytes(parameters)
        if budget is not None and budget < estimate.smallest_bytes:
            raise BudgetInfeasible(
                f"the budget is {budget} bytes, and the smallest artifact these options can make"
                f" has {estimate.smallest_bytes}",
                field="budget",
                budget_bytes=budget,
                smallest_bytes=estimate.smallest_bytes,
            )
        place, memory = shop.works.root, shop.memory_budget_bytes
        await asyncio.to_thread(partial(check_room, estimate, place, memory, waits=True))
        return estimate


def _with_budget(request: JobRequest) -> str:
    """The plan's text with the request's own budget in it."""
    if request.budget_bytes == 0:
        return request.plan_json
    try:
        document = json.loads(request.plan_json) if request.plan_json else {}
    except (ValueError, RecursionError):
        return request.plan_json
    if not isinstance(document, dict):
        return request.plan_json
    return json.dumps({**document, "target_bytes": request.budget_bytes})
