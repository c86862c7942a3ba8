"""Drives one sans-IO DrafterSession: messages to the verifier, drafts to the worker thread."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from hola.engines.worker import EngineWorker
from hola.errors import (
    DeadlineExceeded,
    HolaError,
    Overloaded,
    ProtocolViolation,
    SessionLost,
    VerifierUnavailable,
)
from hola.ports import VerifierLink, VerifierPort
from hola.speculation.actions import Action, Draft, Emit, Send
from hola.speculation.drafter_session import DrafterSession
from hola.telemetry import get_logger
from hola.types import (
    CancelSession,
    DraftBlock,
    GenerateEvent,
    Open,
    Opened,
    Verdict,
    VerifierRequest,
    VerifierResponse,
)
from hola_drafter.outlet import EmitEvent

log = get_logger(__name__)

# What a moment's patience may cure; a full verifier has a place for us later.
PASSING = (SessionLost, VerifierUnavailable, Overloaded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one request waits: for a lost verifier, for one answer of a living one, for a
    goodbye, in all.

    `deadline_s` is counted from the call of `run_session`; None waits for ever.
    """

    verifier_wait_s: float
    answer_s: float = 120.0
    hang_up_s: float = 2.0
    deadline_s: float | None = None


async def run_session(
    session: DrafterSession,
    verifier: VerifierPort,
    worker: EngineWorker,
    emit: EmitEvent,
    *,
    key: str,
    patience: Patience,
) -> None:
    """Play a session to its end; `emit` gets every event, the last one Summary or Failure.

    A lost verifier session is opened again with the committed tokens, with jittered pauses and for
    at most `patience.verifier_wait_s` without a verdict. Errors of the request end in a Failure
    event; what `emit` raises, and cancellation, propagate after the verifier has been told to
    free the session. `key` is the request's lane on the worker.
    """
    shell = _Shell(session, verifier, worker, emit, key, patience)
    try:
        await _play_or_fail(shell, session, patience.deadline_s)
    except _EmitFailed as failed:
        raise failed.error from None
    finally:
        await shell.hang_up()


async def _play_or_fail(shell: _Shell, session: DrafterSession, deadline_s: float | None) -> None:
    try:
        async with asyncio.timeout(deadline_s):
            await shell.play()
    except TimeoutError:
        late = DeadlineExceeded("the deadline passed while the text was being generated")
        await shell.perform(session.fail(late))
    except HolaError as error:
        await shell.perform(session.fail(error))


class _EmitFailed(Exception):
    """Sets what `emit` raised apart from the errors of the request itself."""

    def __init__(self, error: HolaError) -> None:
        super().__init__(error.message)
        self.error = error


class _Shell:
    """The hands of one session: a link, a worker lane and the way out for events."""

    def __init__(
        self,
        session: DrafterSession,
        verifier: VerifierPort,
        worker: EngineWorker,
        emit: EmitEvent,
        key: str,
        patience: Patience,
    ) -> None:
        self._session = session
        self._verifier = verifier
        self._worker = worker
        self._emit = emit
        self._key = key
        self._patience = patience
        self._link: VerifierLink | None = None
        self._question: _Question | None = None
        # The Open that has not been answered yet: an attempt that fails sends it once more.
        self._opening: Sequence[Action] = ()

    async def play(self) -> None:
        """From the first message to the terminal event."""
        actions: Sequence[Action] = self._session.start()
        self._opening = actions
        while actions:
            try:
                actions = await self.perform(actions)
            except PASSING as trouble:
                actions = await self._recover(trouble)
        if not self._session.finished:
            raise ProtocolViolation("the drafter session stopped before its end")

    async def perform(self, actions: Sequence[Action]) -> Sequence[Action]:
        """Carry out actions, and those they lead to, up to and including the next verdict.

        Returns what the session wants after that verdict; nothing at its end.
        """
        todo = deque(actions)
        while todo:
            match todo.popleft():
                case Emit(event=event):
                    await self._give(event)
                case Draft():
                    todo.extend(await self._draft())
                case Send(message=CancelSession()):
                    await self.hang_up()
                case Send(message=message):
                    answer, elapsed_ns = await self._exchange(message)
                    if isinstance(answer, Verdict):
                        return [*todo, *self._session.on_verdict(answer, elapsed_ns)]
                    self._opening = ()
                    todo.extend(self._session.on_opened(answer, elapsed_ns))
        return []

    async def hang_up(self) -> None:
        """Have the verifier free the session; a verifier that is gone has its own time limit."""
        link, self._link = self._link, None
        question, self._question = self._question, None
        if link is None:
            return
        try:
            async with asyncio.timeout(self._patience.hang_up_s):
                if question is not None:
                    await question.sent.wait()
                await link.send(CancelSession())
                if question is not None:
                    await asyncio.wait({question.answer})
        except (HolaError, TimeoutError):
            log.debug("verifier_session_left_to_its_ttl")
        finally:
            await self._let_go(link, question)

    async def _recover(self, trouble: HolaError) -> Sequence[Action]:
        """Open the session again until a verdict comes; returns what follows that verdict."""
        log.warning("verifier_lost", reason=trouble.reason, message=trouble.message)
        retrying = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.05, max=2),
            stop=stop_after_delay(self._patience.verifier_wait_s),
            retry=retry_if_exception_type(PASSING),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                await self._drop_link()
                self._link = await self._connect()
                self._opening = self._opening or self._session.reopen()
                return await self.perform(self._opening)
        raise trouble

    async def _exchange(self, message: VerifierRequest) -> tuple[Opened | Verdict, int]:
        """Send one message and wait for its answer; nanoseconds are those of the round trip."""
        if self._link is None:
            self._link = await self._connect()
        began_ns = time.perf_counter_ns()
        self._question = _Question(self._link, message)
        try:
            async with asyncio.timeout(self._patience.answer_s):
                answer = await asyncio.shield(self._question.answer)
        except TimeoutError:
            raise SessionLost(f"no answer within {self._patience.answer_s} s") from None
        elapsed_ns = time.perf_counter_ns() - began_ns
        if isinstance(message, Open) and isinstance(answer, Opened):
            return answer, elapsed_ns
        if isinstance(message, DraftBlock) and isinstance(answer, Verdict):
            return answer, elapsed_ns
        kinds = f"{type(answer).__name__} answers {type(message).__name__}"
        raise ProtocolViolation(f"the verifier broke the contract: {kinds}")

    async def _connect(self) -> VerifierLink:
        try:
            async with asyncio.timeout(self._patience.verifier_wait_s):
                return await self._verifier.connect(
                    self._key, fingerprint=self._session.fingerprint
                )
        except TimeoutError:
            raise VerifierUnavailable(
                f"no connection to {self._verifier.address}", address=self._verifier.address
            ) from None

    async def _drop_link(self) -> None:
        link, self._link = self._link, None
        question, self._question = self._question, None
        await self._let_go(link, question)

    @staticmethod
    async def _let_go(link: VerifierLink | None, question: _Question | None) -> None:
        """Close the link, also when this is cancelled while the question is being dropped."""
        try:
            await _drop(question)
        finally:
            if link is not None:
                await link.close()

    async def _draft(self) -> Sequence[Action]:
        try:
            timed = await self._worker.run(self._session.draft, key=self._key)
        except Exception:
            # Whatever is wrong with a draft tier: the target alone gives the same text.
            log.exception("draft_failed")
            return self._session.on_draft_failed()
        return self._session.on_draft(timed.value, timed.queue_ns + timed.compute_ns)

    async def _give(self, event: GenerateEvent) -> None:
        try:
            await self._emit(event)
        except HolaError as error:
            raise _EmitFailed(error) from error


class _Question:
    """A message and the wait for its answer, in a task that outlives the cancelled request.

    Cancelling a gRPC read or write ends the call, and then CancelSession could not be sent.
    """

    def __init__(self, link: VerifierLink, message: VerifierRequest) -> None:
        self.sent = asyncio.Event()
        self.answer = asyncio.create_task(self._ask(link, message))

    async def _ask(self, link: VerifierLink, message: VerifierRequest) -> VerifierResponse:
        try:
            await link.send(message)
        finally:
            self.sent.set()
        return await link.receive()


async def _drop(question: _Question | None) -> None:
    """Stop waiting for an answer that nobody wants any more."""
    if question is not None:
        question.answer.cancel()
        await asyncio.gather(question.answer, return_exceptions=True)
