"""A drafter and a verifier in one process: runs single requests through the services' own parts."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hola.engines.fingerprint import Fingerprint, probe
from hola.engines.worker import EngineWorker
from hola.errors import HolaError, from_reason
from hola.ports import Proposer, VerifierPort
from hola.speculation.drafter_session import DrafterSession
from hola.speculation.pacing import AdaptivePacing, FixedPacing, Pacing
from hola.telemetry import Metrics
from hola.types import (
    Failure,
    GenerateEvent,
    GenerateJob,
    SpeculationParams,
    Summary,
    Tokens,
)
from hola_bench.cases import Case
from hola_bench.models import Engines, Models, load
from hola_bench.plan import Plan
from hola_drafter.caches import DraftCaches
from hola_drafter.loop import run_session
from hola_drafter.patience import Patience
from hola_verifier.host import Limits, VerifierHost
from hola_verifier.hosts import Hosts
from hola_verifier.local import LocalVerifier
from hola_verifier.target import Target

KV_BUDGET_BYTES = 2**31
PATIENCE = Patience(verifier_wait_s=30.0, answer_s=120.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What one way of decoding made of one case; `takeovers` counts drafters that died on it."""

    case: Case
    ids: tuple[int, ...]
    summary: Summary
    takeovers: int = 0


@dataclass(slots=True)
class Transcript:
    """Collects one request's events."""

    ids: list[int] = field(default_factory=list)
    summary: Summary | None = None

    async def put(self, event: GenerateEvent) -> None:
        """Note an event. Raises the error that a Failure tells of."""
        match event:
            case Tokens(tokens=tokens):
                self.ids += [token.token for token in tokens]
            case Summary():
                self.summary = event
            case Failure():
                raise from_reason(event.reason, event.message, event.details)

    def decoded(self, case: Case, *, takeovers: int = 0) -> Decoded:
        """What came out. Raises HolaError when the stream never ended."""
        if self.summary is None:
            raise HolaError(f"{case.name}: the stream ended without a summary")
        return Decoded(case=case, ids=tuple(self.ids), summary=self.summary, takeovers=takeovers)


class Rig:
    """Loaded tiers with a verifier host; use from one event loop, inside `open_rig`."""

    def __init__(self, models: Models, engines: Engines, fingerprint: Fingerprint) -> None:
        self.models = models
        self.engines = engines
        self.target = Target(
            model=models.name,
            engine=engines.target,
            tokenizer_fingerprint=engines.tokenizer.fingerprint,
            artifact_digest=models.artifact_digest,
            fingerprint=fingerprint,
        )
        self.draft_worker = EngineWorker("bench-draft")
        self.target_worker = EngineWorker("bench-target")
        limits = Limits(kv_budget_bytes=KV_BUDGET_BYTES)
        self._host = VerifierHost(self.target, self.target_worker, limits)
        self.verifier: VerifierPort = LocalVerifier(Hosts(self._host))
        self._numbers = itertools.count()
        self._metrics = Metrics()
        self._pacing: dict[str, AdaptivePacing] = {}

    async def decode(
        self,
        plan: Plan,
        case: Case,
        *,
        job: GenerateJob | None = None,
        verifier: VerifierPort | None = None,
    ) -> Decoded:
        """One request as `plan` says. Raises the HolaError it failed with."""
        job = job or self.job(plan, case)
        tokens = len(case.prompt.ids)
        caches = DraftCaches(self.engines.drafts, plan.ladder, job, tokens, self._metrics)
        ladder = await self._ladder(plan, case, caches, job.request_id)
        transcript = Transcript()
        session = DrafterSession(
            job,
            prompt=case.prompt.ids,
            model=self.models.name,
            ladder=ladder,
            pacing=self._pacing_of(plan, case),
            tokenizer=self.engines.tokenizer,
            target_name="target",
            context_length_of_drafts=self._draft_context(plan),
            clock=time.perf_counter_ns,
        )
        try:
            await run_session(
                session,
                verifier or self.verifier,
                self.draft_worker,
                transcript.put,
                key=job.request_id,
                patience=PATIENCE,
            )
        finally:
            await self.draft_worker.run(caches.close, key=job.request_id)
        return transcript.decoded(case)

    def job(self, plan: Plan, case: Case) -> GenerateJob:
        """The request, under an id that no other request of this rig has."""
        return GenerateJob(
            request_id=f"{case.request_id}-{next(self._numbers)}",
            model=self.models.name,
            prompt_token_ids=case.prompt.ids,
            sampling=case.params,
            speculation=SpeculationParams(
                mode=plan.mode, ladder=plan.ladder, max_draft_tokens=plan.draft_tokens
            ),
        )

    async def _ladder(
        self, plan: Plan, case: Case, caches: DraftCaches, key: str
    ) -> Proposer | None:
        if plan.proposer is not None:
            return plan.proposer(case, self.engines.target.info.vocab_size)
        return (await self.draft_worker.run(caches.open, key=key)).value

    def _pacing_of(self, plan: Plan, case: Case) -> Pacing:
        """What adapts learns from one request for the next, as in a drafter."""
        if plan.pacing is not None:
            return plan.pacing(case)
        if plan.draft_tokens is not None:
            return FixedPacing(plan.draft_tokens)
        return self._pacing.setdefault(plan.name, AdaptivePacing())

    def _draft_context(self, plan: Plan) -> int:
        lengths = [
            engine.info.context_length
            for name, engine in self.engines.drafts.items()
            if name in plan.ladder
        ]
        return min([*lengths, self.engines.target.info.context_length])

    async def close(self) -> None:
        """Free sessions and threads; the engines stay."""
        await self.verifier.close()
        await self._host.close()
        await self.draft_worker.close()
        await self.target_worker.close()


@asynccontextmanager
async def open_rig(models: Models, *, threads: int) -> AsyncIterator[Rig]:
    """Load the tiers, probe the target, and free everything at the end."""
    engines = load(models, threads=threads)
    rig = Rig(models, engines, probe(engines.target))
    try:
        yield rig
    finally:
        await rig.close()
        engines.close()
