"""The sessions of one target: admission, prefill in turns, verdicts, takeover, expiry, drain."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from hola import __version__
from hola.checking import Checked, CheckRequest
from hola.engines.worker import EngineWorker, Timed
from hola.errors import EngineFailure, MemoryBudgetExceeded, Overloaded, SessionLost
from hola.retrieval.gate.draft import check_in_steps
from hola.speculation.verifier_session import PREFILL_CHUNK_TOKENS, VerifierSession
from hola.telemetry import Metrics, get_logger
from hola.types import DraftBlock, Open, Opened, Verdict, VerifierInfo
from hola_verifier.admission import capacity_of, check_open, check_question
from hola_verifier.check import in_turns
from hola_verifier.door import Door
from hola_verifier.speed import PrefillSpeed
from hola_verifier.table import RETRY_AFTER_MS, Entry, SessionTable
from hola_verifier.target import Target

log = get_logger(__name__)
T = TypeVar("T")
Session = Entry[VerifierSession]
Release = asyncio.Task[Timed[None]]
_END = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a host may use. `queue_limit` bounds the engine jobs waiting when a session opens.

    `opening_s`: how long a stream may take to its Open. `ttl_s`: how long a session without a
    message is kept. `spare_s`: how long it is kept while others need its room.
    """

    max_sessions: int = 64
    kv_budget_bytes: int
    ttl_s: float = 120.0
    opening_s: float = 10.0
    spare_s: float = 30.0
    queue_limit: int = 256


class VerifierHost:
    """Verifier sessions on one engine worker. Use from one event loop.

    Every engine job of a session runs under its id, so the worker serves sessions in turn: a long
    prefill, cut into chunks, delays another session's block by one chunk at most.
    """

    def __init__(
        self,
        target: Target,
        worker: EngineWorker,
        limits: Limits,
        *,
        metrics: Metrics | None = None,
        door: Door | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`clock` gives monotonic nanoseconds. The host owns neither target nor worker.

        Hosts that follow one another in a process share a `door`.
        """
        self._target = target
        self._worker = worker
        self._limits = limits
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._table: SessionTable[VerifierSession] = SessionTable(
            max_sessions=limits.max_sessions,
            kv_budget_bytes=limits.kv_budget_bytes,
            ttl_ns=int(limits.ttl_s * 1e9),
            spare_ns=int(limits.spare_s * 1e9),
        )
        self.door = door or Door()
        self._speed = PrefillSpeed(target.prefill_ns_per_token)
        self._releases: set[Release] = set()
        self._closed = False

    def info(self) -> VerifierInfo:
        """What is served, and how loaded it is now."""
        return VerifierInfo(
            version=__version__,
            model=self._target.model,
            tokenizer_fingerprint=self._target.tokenizer_fingerprint,
            artifact_digest=self._target.artifact_digest,
            fingerprint=self._target.digest,
            exactness=self._target.exactness,
            context_length=self._target.engine.info.context_length,
            active_sessions=self._table.attached,
            queue_depth=self._worker.depth,
            kv_bytes=self._table.kv_bytes,
            kv_budget_bytes=self._table.kv_budget_bytes,
            draining=self.door.draining,
            prefill_ns_per_token=self._speed.ns_per_token,
        )

    @property
    def fingerprint(self) -> str:
        """The target's numerics; empty when its probe failed."""
        return self._target.digest

    @property
    def artifact_digest(self) -> str:
        """What it serves."""
        return self._target.artifact_digest

    @property
    def kv_usage(self) -> float:
        """Part of the KV cache's budget that is allocated, 0 to 1."""
        return self._table.kv_bytes / max(1, self._table.kv_budget_bytes)

    @property
    def sessions(self) -> int:
        """Sessions with a stream, or waiting for one."""
        return len(self._table)

    @property
    def depth(self) -> int:
        """Engine jobs waiting or running."""
        return self._worker.depth

    @property
    def busy(self) -> bool:
        """Whether a session has a stream, or the engine has work."""
        return self._table.attached > 0 or self.depth > 0

    def has(self, request: Open) -> bool:
        """Whether the session of this request is here."""
        return self._table.get(request.session_id, request.tenant) is not None

    @property
    def limits(self) -> Limits:
        """As given."""
        return self._limits

    async def open(self, owner: object, request: Open) -> tuple[Session, Opened]:
        """Start a session for the stream `owner`, or take over the one of this id; prefill it.

        Raises UnknownModel, TokenizerMismatch, FingerprintMismatch, InvalidRequest (and kinds),
        MemoryBudgetExceeded, Overloaded, EngineFailure, SessionMoved. Cancelling it stops the
        prefill after the chunk under way; what has been computed is kept for a takeover.
        """
        if self._closed:
            raise SessionLost("this verifier is shutting down", session_id=request.session_id)
        self.door.check_staying(request.session_id)
        exactness = check_open(request, self._target)
        self._check_queue()
        entry, leaving = self._claim(owner, request)
        try:
            prefill = await self._prefill_with_room(owner, entry, request, leaving)
        except asyncio.CancelledError:
            self.detach(owner, entry)
            raise
        except Exception:
            if entry.owner is owner:
                self._release(entry, "failed")
            raise
        self._metrics.prefill_seconds.observe(prefill.compute_ns / 1e9)
        info = self._target.engine.info
        return entry, Opened(
            fingerprint=self._target.digest,
            exactness=exactness,
            context_length=info.context_length,
            eos_token_ids=info.eos_token_ids,
            prefill_ns=prefill.compute_ns,
            queue_ns=prefill.queue_ns,
            cached_tokens=prefill.value,
            queue_depth=self._worker.depth,
        )

    async def verify(self, owner: object, entry: Session, block: DraftBlock) -> Verdict:
        """The target's verdict on a block, with its queueing and engine time.

        Raises SessionLost when the session has expired or another stream has taken it over,
        ProtocolViolation, EngineFailure (the session is gone then).
        """
        self._check_owner(owner, entry)
        try:
            timed = await self._run(entry, lambda: self._check_owner(owner, entry).verify(block))
        except EngineFailure:
            self._release(entry, "failed")
            raise
        verdict = timed.value
        self._metrics.verify_seconds.observe(timed.compute_ns / 1e9)
        self._metrics.verify_queue_seconds.observe(timed.queue_ns / 1e9)
        self._metrics.count_block(len(block.tokens), verdict.accepted)
        return replace(
            verdict,
            compute_ns=timed.compute_ns,
            queue_ns=timed.queue_ns,
            queue_depth=self._worker.depth,
        )

    async def check(self, request: CheckRequest) -> Checked:
        """What the target thinks of a drafted answer; counted as a session while it lasts.

        Raises UnknownModel, TokenizerMismatch, InvalidRequest (and kinds), MemoryBudgetExceeded,
        Overloaded, EngineFailure, SessionMoved. Cancelling it stops after the chunk under way.
        """
        if self._closed:
            raise SessionLost("this verifier is shutting down")
        self.door.check_staying()
        check_question(request, self._target)
        self._check_queue()
        name = f"check-{uuid.uuid4().hex}"
        capacity = len(request.prompt) + len(request.draft)
        entry, leaving = self._admit(self, name, capacity, request.tenant)
        steps = check_in_steps(
            self._target.engine, request.prompt, request.draft, chunk=PREFILL_CHUNK_TOKENS
        )
        try:
            if leaving:
                await asyncio.wait(leaving)
            found = await in_turns(steps, partial(self._run, entry), self.door.check_staying)
            return replace(found, prefill_ns_per_token=self._speed.ns_per_token)
        except MemoryBudgetExceeded as refused:
            if len(self._table) == 1:
                raise
            details = {**refused.details, "retry_after_ms": RETRY_AFTER_MS}
            raise Overloaded(refused.message, **details) from refused
        finally:
            self._table.remove(entry)
            # Behind the step that may still run: only the worker's thread may touch the cache.
            self._later(self._worker.run(steps.close, key=entry.key))

    def detach(self, owner: object, entry: Session) -> None:
        """The stream broke: the session waits for a takeover until it expires or must make room."""
        if entry.owner is owner:
            entry.owner = None
            entry.used_ns = self._clock()

    def finish(self, owner: object, entry: Session) -> None:
        """Free a session in good order, if it is still this stream's."""
        if entry.owner is owner:
            self._release(entry, "done")

    def move(self, owner: object, entry: Session) -> None:
        """Free a session that goes on elsewhere, if it is still this stream's."""
        if entry.owner is owner:
            self._release(entry, "moved")

    def rounds(self, entry: Session) -> int:
        """Blocks verified since the session was opened last."""
        return 0 if entry.cache is None else entry.cache.rounds

    def sweep(self) -> None:
        """Free the sessions that nobody has used for the time to live."""
        for entry in self._table.expired(self._clock()):
            self._release(entry, "idle")

    async def close(self, timeout_s: float = 1.0) -> None:
        """Free all sessions; wait up to timeout_s seconds for the engine to let go. Idempotent."""
        # An Open may still be on the wire: admitted now, its cache would never be freed.
        self._closed = True
        for entry in self._table.entries():
            self._release(entry, "shutdown")
        if self._releases:
            await asyncio.wait(set(self._releases), timeout=timeout_s)

    def _claim(self, owner: object, request: Open) -> tuple[Session, list[Release]]:
        """The session to use, now owned by `owner`, and what has to be freed before."""
        capacity = capacity_of(request, self._target.engine.info)
        existing = self._table.get(request.session_id, request.tenant)
        if existing is not None and existing.cache is not None and existing.capacity >= capacity:
            existing.owner = owner
            existing.used_ns = self._clock()
            return existing, []
        if existing is not None:
            self._release(existing, "replaced")
        return self._admit(owner, request.session_id, capacity, request.tenant)

    def _admit(
        self, owner: object, session_id: str, capacity: int, tenant: str
    ) -> tuple[Session, list[Release]]:
        """A new session's place, and what has to be freed before. Raises as the table's `admit`."""
        entry = Session(
            session_id=session_id,
            capacity=capacity,
            kv_bytes=capacity * self._target.engine.info.kv_bytes_per_token,
            used_ns=self._clock(),
            owner=owner,
            tenant=tenant,
        )
        return entry, [self._free(gone, "evicted") for gone in self._table.admit(entry)]

    def _check_queue(self) -> None:
        if self._worker.depth >= self._limits.queue_limit:
            raise Overloaded(
                f"{self._worker.depth} engine jobs are waiting", retry_after_ms=RETRY_AFTER_MS
            )

    async def _prefill_with_room(
        self, owner: object, entry: Session, request: Open, leaving: list[Release]
    ) -> Timed[int]:
        """`_prefill`, once the engine's own budget allows it.

        The engine counts more than our estimate (padding, what else the machine runs), so it may
        refuse what the table admitted: then waiting sessions go, one by one.
        """
        while True:
            if leaving:
                await asyncio.wait(leaving)
            try:
                return await self._prefill(owner, entry, request)
            except MemoryBudgetExceeded as refused:
                idle = [each for each in self._table.idle(self._clock()) if each is not entry]
                if idle:
                    self._table.remove(idle[0])
                    leaving = [self._free(idle[0], "evicted")]
                elif len(self._table) > 1:
                    details = {**refused.details, "retry_after_ms": RETRY_AFTER_MS}
                    raise Overloaded(refused.message, **details) from refused
                else:
                    raise

    async def _prefill(self, owner: object, entry: Session, request: Open) -> Timed[int]:
        """Bring the cache to the end of the request's tokens; how many were in it before."""

        def begin() -> tuple[int, Iterator[None]]:
            if entry.cache is None and entry.owner is owner:
                entry.cache = self._target.open(entry.capacity, request.sampling)
            cache = self._check_owner(owner, entry)
            cached = cache.rebase(request.prompt, request.committed, sampling=request.sampling)
            return cached, cache.prefill_steps()

        def step() -> bool:
            self._check_owner(owner, entry)
            return next(steps, _END) is not _END

        timed = await self._run(entry, begin)
        cached_tokens, steps = timed.value
        queue_ns, compute_ns = timed.queue_ns, timed.compute_ns
        more = True
        while more:
            self.door.check_staying(entry.session_id)
            chunk = await self._run(entry, step)
            more = chunk.value
            queue_ns += chunk.queue_ns
            compute_ns += chunk.compute_ns
        fed = len(request.prompt) + len(request.committed) - 1 - cached_tokens
        self._speed.observe(fed, compute_ns - timed.compute_ns)
        return Timed(cached_tokens, queue_ns, compute_ns)

    def _check_owner(self, owner: object, entry: Session) -> VerifierSession:
        """The session's cache, if it is still this stream's; also asked on the worker's thread.

        Two streams' jobs for one id can be queued at once; only the later stream's may run.
        """
        if entry.owner is owner and entry.cache is not None:
            return entry.cache
        why = "another stream has taken this session over"
        if entry.owner is None:
            why = "the session was idle for too long or had to make room: open it again"
        raise SessionLost(why, session_id=entry.session_id)

    async def _run(self, entry: Session, call: Callable[[], T]) -> Timed[T]:
        """An engine job in the session's turn."""
        entry.running += 1
        try:
            return await self._worker.run(call, key=entry.key)
        finally:
            entry.running -= 1
            entry.used_ns = self._clock()

    def _release(self, entry: Session, why: str) -> None:
        """Forget a session and free its cache; nothing when it is forgotten already."""
        if self._table.remove(entry):
            self._free(entry, why)

    def _free(self, entry: Session, why: str) -> Release:
        """Have the worker free a forgotten session's cache, after the jobs it still has."""
        log.info("session_closed", session_id=entry.session_id, why=why)
        self._metrics.sessions_closed.labels(why).inc()
        entry.owner = None

        def free() -> None:
            if entry.cache is not None:
                entry.cache.close()

        return self._later(self._worker.run(free, key=entry.key))

    def _later(self, freeing: Coroutine[None, None, Timed[None]]) -> Release:
        task = asyncio.create_task(freeing)
        self._releases.add(task)
        task.add_done_callback(self._released)
        return task

    def _released(self, task: Release) -> None:
        self._releases.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("session_not_freed", error=str(task.exception()))
