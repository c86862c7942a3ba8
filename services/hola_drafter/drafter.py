"""One device's drafter: its draft tiers, and one verified generation per call."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, replace

from hola import __version__, genai, tracing
from hola.convert import failure_of
from hola.engines.worker import EngineWorker, Timed
from hola.errors import (
    DeadlineExceeded,
    DuplicateRequest,
    EmptyPrompt,
    HolaError,
    Overloaded,
    PromptTooLong,
    UnknownModel,
)
from hola.ports import Engine, Tokenizer, VerifierPort
from hola.speculation.drafter_session import DrafterSession
from hola.speculation.pacing import AdaptivePacing, FixedPacing, Pacing
from hola.speculation.proposers import LOOKUP, select_tiers
from hola.telemetry import Metrics, bound_ids, get_logger
from hola.types import (
    DrafterInfo,
    Failure,
    GenerateEvent,
    GenerateJob,
    Summary,
)
from hola.validate import (
    check_lookup_texts,
    check_request_id,
    check_sampling,
    check_speculation,
)
from hola_drafter.caches import DraftCaches
from hola_drafter.history import NEW, History
from hola_drafter.loop import run_session
from hola_drafter.outlet import SERVICE, EmitEvent, Outlet
from hola_drafter.patience import Patience

log = get_logger(__name__)

# Events a slow direct caller may be behind before generation waits for it.
MAX_UNREAD = 64
RETRY_AFTER_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftModel:
    """What a drafter runs: a family's name, tokenizer and draft engines, cheapest first.

    `context_length` is the target's, as the manifest says it; the verifier has the last word.
    `digests` are those of `family_digests` that it was loaded from.
    """

    name: str
    target_name: str
    context_length: int
    tokenizer: Tokenizer
    engines: Mapping[str, Engine]
    digests: tuple[str, ...] = ()

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names that a request's ladder may use, cheapest first."""
        return (LOOKUP, *self.engines)


class Drafter:
    """Generates for one model family. Implements DrafterPort; use from one event loop.

    The engines' KV caches are opened and used on `worker` only; `close` leaves the verifier and
    the worker to whoever made them.
    """

    def __init__(
        self,
        model: DraftModel,
        verifier: VerifierPort,
        worker: EngineWorker,
        *,
        patience: Patience,
        max_direct: int = 64,
        metrics: Metrics | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`max_direct` bounds the calls of `generate` at a time; `run` has its caller's bound."""
        self._model = model
        self._verifier = verifier
        self._worker = worker
        self._patience = patience
        self._metrics = metrics or Metrics()
        self._metrics.requests_running.labels(SERVICE).set_function(lambda: self._active)
        self._clock = clock
        self._pacing: dict[tuple[str, ...], AdaptivePacing] = {}
        self._closing: set[asyncio.Task[Timed[None]]] = set()
        self._max_direct = max_direct
        self._direct: set[str] = set()
        self._active = 0

    @property
    def metrics(self) -> Metrics:
        """Where it counts."""
        return self._metrics

    @property
    def model(self) -> DraftModel:
        """What requests get that begin now."""
        return self._model

    def swap(self, model: DraftModel) -> None:
        """Requests that begin from now on get `model`; those that run keep what they have.

        The old engines go with the last request that uses them.
        """
        self._model = model
        self._pacing.clear()

    @property
    def busy(self) -> bool:
        """Whether a request runs."""
        return self._active > 0

    async def info(self) -> DrafterInfo:
        """What this drafter runs."""
        return DrafterInfo(
            version=__version__,
            model=self._model.name,
            tiers=self._model.tiers,
            tokenizer_fingerprint=self._model.tokenizer.fingerprint,
            verifier=self._verifier.address,
            active_requests=self._active,
        )

    async def generate(self, job: GenerateJob) -> AsyncGenerator[GenerateEvent, None]:
        """Events of one request: Started, Tokens..., then Summary or Failure.

        A job without request id gets one. Closing the iterator stops the compute here and at the
        verifier.
        """
        if not job.request_id:
            job = replace(job, request_id=uuid.uuid4().hex)
        refusal = self._refusal(job)
        if refusal is not None:
            yield failure_of(refusal)
            return
        events: asyncio.Queue[GenerateEvent] = asyncio.Queue(MAX_UNREAD)
        self._direct.add(job.request_id)
        running = asyncio.create_task(self.run(job, events.put))
        ended = False
        try:
            while not ended:
                event = await events.get()
                ended = isinstance(event, Summary | Failure)
                if ended:
                    # Who has read the end may use the id again, though we still clean up.
                    self._direct.discard(job.request_id)
                yield event
        finally:
            if not ended:
                running.cancel()
                self._direct.discard(job.request_id)
            await asyncio.gather(running, return_exceptions=True)

    async def run(self, job: GenerateJob, emit: EmitEvent, *, history: History = NEW) -> None:
        """Generate into `emit`, going on behind `history`; its last event is Summary or Failure.

        Raises only what `emit` raises.
        """
        self._active += 1
        asked = genai.of_request(self._model.name, job.sampling, request_id=job.request_id)
        ids = bound_ids(request_id=job.request_id, session_id=job.request_id)
        try:
            with ids, tracing.span(f"generate {self._model.name}", asked) as span:
                span.set({"hola.tokens_before": len(history.committed) or None})
                outlet = Outlet(emit, self._metrics, job, span)
                await self._checked(job, outlet, history)
        finally:
            self._active -= 1

    def _refusal(self, job: GenerateJob) -> HolaError | None:
        """Why a direct call cannot be taken now; two of one id would fight for one session."""
        if job.request_id in self._direct:
            return DuplicateRequest(f"request {job.request_id!r} is running here already")
        if len(self._direct) >= self._max_direct:
            text = f"{self._max_direct} direct requests are running, the limit"
            return Overloaded(text, retry_after_ms=RETRY_AFTER_MS)
        return None

    async def _checked(self, job: GenerateJob, outlet: Outlet, history: History) -> None:
        try:
            await self._generate(job, outlet, history)
        except HolaError as error:
            if outlet.broken:
                raise
            await outlet(failure_of(error))
        except Exception:
            log.exception("generation_failed")
            if outlet.broken:
                raise
            await outlet(failure_of(HolaError("internal error in the drafter; see its log")))

    async def _generate(self, job: GenerateJob, outlet: Outlet, history: History) -> None:
        began_ns = time.perf_counter_ns()
        model = self._model  # a swap meanwhile is for requests that come later
        self._check(job, model)
        names = self._ladder_names(job, model)
        prompt = await self._tokenize(job, model)
        caches = DraftCaches(
            model.engines,
            names,
            job,
            len(prompt),
            self._metrics,
            lookup_texts=await self._lookup_texts(job, names, model),
        )
        try:
            ladder = (await self._worker.run(caches.open, key=job.request_id)).value
            session = DrafterSession(
                job,
                prompt=prompt,
                model=model.name,
                ladder=ladder,
                pacing=self._pacing_of(job, names),
                tokenizer=model.tokenizer,
                target_name=model.target_name,
                context_length_of_drafts=self._draft_context(names, model),
                clock=time.perf_counter_ns,
                writer=None if ladder is None else ladder.writer,
                eos_of_drafts=caches.eos_token_ids,
                committed=history.committed,
                unverified=history.unverified,
                corrections=history.corrections,
                started=history.started,
                fingerprint=history.fingerprint,
                queue_ns=self._queue_ns(job),
                tokenize_ns=time.perf_counter_ns() - began_ns,
            )
            await run_session(
                session,
                self._verifier,
                self._worker,
                outlet,
                key=job.request_id,
                patience=self._patience_of(job),
                metrics=self._metrics,
            )
        finally:
            await self._free(caches, job.request_id)

    def _check(self, job: GenerateJob, model: DraftModel) -> None:
        check_request_id(job.request_id)
        if job.model not in ("", model.name):
            raise UnknownModel(
                f"this drafter runs {model.name}, not {job.model}",
                model=job.model,
                known=model.name,
            )
        check_sampling(job.sampling, model.tokenizer.vocab_size)
        check_speculation(job.speculation)
        check_lookup_texts(job.lookup_texts)
        if 0 < job.deadline_unix_ns <= self._clock():
            raise DeadlineExceeded("the deadline passed before a drafter was free")

    def _ladder_names(self, job: GenerateJob, model: DraftModel) -> tuple[str, ...]:
        wanted = job.speculation.ladder
        if job.speculation.max_draft_tokens == 0:
            wanted = ()
        return select_tiers(model.tiers, wanted)

    async def _tokenize(self, job: GenerateJob, model: DraftModel) -> tuple[int, ...]:
        tokens = job.prompt_token_ids
        if tokens is None:
            encode = model.tokenizer.encode
            timed = await self._worker.run(lambda: encode(job.prompt), key=job.request_id)
            tokens = tuple(timed.value)
        if not tokens:
            raise EmptyPrompt("the prompt has no token", field="prompt")
        if len(tokens) >= model.context_length:
            raise PromptTooLong(
                f"the prompt has {len(tokens)} tokens and leaves no room in the context of"
                f" {model.context_length}",
                prompt_tokens=len(tokens),
                context_length=model.context_length,
            )
        return tokens

    async def _lookup_texts(
        self, job: GenerateJob, names: tuple[str, ...], model: DraftModel
    ) -> tuple[tuple[int, ...], ...]:
        """The job's own texts to copy from, as token ids; none for a ladder without lookup."""
        if LOOKUP not in names or not job.lookup_texts:
            return ()
        encode = model.tokenizer.encode
        timed = await self._worker.run(
            lambda: tuple(tuple(encode(text)) for text in job.lookup_texts), key=job.request_id
        )
        return timed.value

    async def _free(self, caches: DraftCaches, key: str) -> None:
        """Close behind everything the request still runs; being cancelled does not stop it."""
        closing = asyncio.create_task(self._worker.run(caches.close, key=key))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        await asyncio.shield(closing)

    def _pacing_of(self, job: GenerateJob, names: tuple[str, ...]) -> Pacing:
        """What was learned from earlier requests with the same ladder, unless the length is set."""
        if job.speculation.max_draft_tokens is not None:
            return FixedPacing(job.speculation.max_draft_tokens)
        return self._pacing.setdefault(names, AdaptivePacing())

    def _draft_context(self, names: tuple[str, ...], model: DraftModel) -> int:
        lengths = [e.info.context_length for n, e in model.engines.items() if n in names]
        return min([*lengths, model.context_length])

    def _queue_ns(self, job: GenerateJob) -> int:
        return max(0, self._clock() - job.accepted_unix_ns) if job.accepted_unix_ns else 0

    def _patience_of(self, job: GenerateJob) -> Patience:
        if job.deadline_unix_ns == 0:
            return self._patience
        left_s = (job.deadline_unix_ns - self._clock()) / 1e9
        return replace(self._patience, deadline_s=max(0.0, left_s))
