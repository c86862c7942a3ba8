"""Drives one sans-IO DrafterSession: messages to the verifier, drafts to the worker thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from hola import tracing
from hola.engines.worker import EngineWorker
from hola.errors import (
    DeadlineExceeded,
    HolaError,
    Overloaded,
    ProtocolViolation,
    SessionLost,
    SessionMoved,
    VerifierUnavailable,
)
from hola.ports import Proposal, VerifierPort
from hola.speculation.actions import Action, Draft, Emit, Send
from hola.speculation.drafter_session import DrafterSession
from hola.telemetry import Metrics, get_logger
from hola.types import (
    CancelSession,
    DraftBlock,
    GenerateEvent,
    Open,
    Opened,
    Outage,
)
from hola_drafter.line import Line
from hola_drafter.outlet import EmitEvent
from hola_drafter.patience import Absence, Patience
from hola_drafter.rounds import Rounds

log = get_logger(__name__)

# What a moment's patience may cure; a full verifier has a place for us later.
PASSING = (SessionLost, VerifierUnavailable, Overloaded)
_LOOK_AGAIN_S = 0.1


async def run_session(
    session: DrafterSession,
    verifier: VerifierPort,
    worker: EngineWorker,
    emit: EmitEvent,
    *,
    key: str,
    patience: Patience,
    metrics: Metrics | None = None,
) -> None:
    """Play a session to its end; `emit` gets every event, the last one Summary or Failure.

    A lost verifier session is opened again with the committed tokens, with jittered pauses and for
    at most `patience.verifier_wait_s` without a verdict (Outage.WAIT); or only once (FAIL); or
    while the drafts go on (LOCAL). Errors of the request end in a Failure event; what `emit`
    raises, and cancellation, propagate after the verifier has been told to free the session.
    `key` is the request's lane on the worker.
    """
    rounds = Rounds(metrics or Metrics())
    shell = _Shell(session, verifier, worker, emit, key, patience, rounds)
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
        await shell.perform(session.out_of_patience(late))
    except HolaError as error:
        await shell.perform(session.fail(error))


class _EmitFailed(Exception):
    """Sets what `emit` raised apart from the errors of the request itself."""

    def __init__(self, error: HolaError) -> None:
        super().__init__(error.message)
        self.error = error


class _Shell:
    """The hands of one session: a line, a worker lane and the way out for events."""

    def __init__(
        self,
        session: DrafterSession,
        verifier: VerifierPort,
        worker: EngineWorker,
        emit: EmitEvent,
        key: str,
        patience: Patience,
        rounds: Rounds,
    ) -> None:
        self._session = session
        self._rounds = rounds
        self._worker = worker
        self._emit = emit
        self._key = key
        self._patience = patience
        self._line = Line(verifier, key, patience)
        self._absence = Absence(patience.verifier_wait_s)
        # The Open that has not been answered yet: an attempt that fails sends it once more.
        self._opening: Sequence[Action] = ()

    async def play(self) -> None:
        """From the first message to the terminal event."""
        actions: Sequence[Action] = self._session.start()
        self._opening = actions
        while actions:
            try:
                actions = await self.perform(actions)
                self._absence.over()
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
                    self._rounds.committed()
                    todo.extend(await self._draft())
                case Send(message=CancelSession()):
                    self._rounds.committed()
                    await self.hang_up()
                case Send(message=DraftBlock() as block):
                    self._rounds.committed()
                    with self._rounds.round(block) as span:
                        verdict, elapsed_ns = await self._line.verify(block)
                        self._rounds.judged(span, verdict, elapsed_ns)
                    return [*todo, *self._session.on_verdict(verdict, elapsed_ns)]
                case Send(message=Open() as message):
                    opened, elapsed_ns = await self._open(message)
                    self._opening = ()
                    todo.extend(self._session.on_opened(opened, elapsed_ns))
        return []

    async def hang_up(self) -> None:
        """Have the verifier free the session."""
        await self._line.hang_up()

    async def _recover(self, trouble: HolaError) -> Sequence[Action]:
        """A verifier was lost, or never reached: what to do now. Raises what ends the request."""
        moved = isinstance(trouble, SessionMoved)
        tell = log.info if moved else log.warning
        tell("verifier_lost", reason=trouble.reason, message=trouble.message)
        await self._line.drop()
        pause_s = self._absence.pause_s(trouble)
        could_not_open = bool(self._opening)
        self._opening = self._opening or self._session.reopen()
        match self._session.outage:
            case Outage.LOCAL:
                # Who could not even open a session has waited long enough.
                grace_s = 0.0 if could_not_open and not moved else self._patience.local_after_s
                return await self._go_on_alone(self._opening, pause_s, grace_s)
            case Outage.FAIL if (could_not_open and not moved) or self._absence.tries > 1:
                raise VerifierUnavailable(
                    f"no verifier can be reached: {trouble.message}", cause=trouble.reason
                ) from trouble
        if self._absence.left_s == 0:
            raise trouble
        await asyncio.sleep(pause_s)
        return self._opening

    async def _go_on_alone(
        self, opening: Sequence[Action], pause_s: float, grace_s: float
    ) -> Sequence[Action]:
        """Write without a verifier until one is open again; what the session wants then.

        Absences of `grace_s` are waited out, and so is a verifier that has taken the call and works
        on the prompt. When the local text is complete the wait is bounded as ever.
        """
        reaching = asyncio.create_task(self._reach(opening, pause_s))
        try:
            await asyncio.wait({reaching}, timeout=min(grace_s, self._absence.left_s))
            while self._line.is_connected and not reaching.done():
                await asyncio.wait({reaching}, timeout=_LOOK_AGAIN_S)
            due = await self._write_until(reaching)
            await asyncio.wait({reaching}, timeout=self._absence.left_s)
            if not reaching.done():
                lost = self._absence.trouble or VerifierUnavailable("no verifier came back")
                return self._session.out_of_patience(lost)
            opened, elapsed_ns = reaching.result()
        finally:
            reaching.cancel()
            await asyncio.gather(reaching, return_exceptions=True)
        self._opening = ()
        actions = self._session.on_opened(opened, elapsed_ns)
        # A draft that was asked for and is not wanted any more has no tokens.
        return [*actions, *(self._session.on_draft(Proposal(), 0) if due else ())]

    async def _write_until(self, reaching: asyncio.Task[tuple[Opened, int]]) -> bool:
        """Draft and emit until the task is done, or there is no more to write.

        True when a draft has been asked for that was not made.
        """
        todo = deque(() if reaching.done() else self._session.write_locally())
        while todo:
            match todo.popleft():
                case Emit(event=event):
                    await self._give(event)
                case _ if reaching.done():
                    return True
                case _:
                    todo.extend(await self._draft())
        return False

    async def _reach(self, opening: Sequence[Action], pause_s: float) -> tuple[Opened, int]:
        """Open the session anywhere, with jittered pauses, for as long as it takes."""
        (message,) = (
            action.message
            for action in opening
            if isinstance(action, Send) and isinstance(action.message, Open)
        )
        while True:
            await asyncio.sleep(pause_s)
            try:
                return await self._open(message)
            except PASSING as trouble:
                log.info("verifier_not_back", reason=trouble.reason, message=trouble.message)
                await self._line.drop()
                pause_s = self._absence.pause_s(trouble)

    async def _open(self, message: Open) -> tuple[Opened, int]:
        connect_s = self._patience.verifier_wait_s
        if self._session.outage is not Outage.WAIT:
            connect_s = min(connect_s, self._patience.at_once_s)
        fingerprint = self._session.fingerprint
        with self._rounds.opening(message) as span:
            opened, elapsed_ns = await self._line.open(
                message, fingerprint=fingerprint, connect_s=connect_s
            )
            self._rounds.opened(span, opened)
        return opened, elapsed_ns

    async def _draft(self) -> Sequence[Action]:
        with tracing.held("draft") as span:
            try:
                timed = await self._worker.run(self._session.draft, key=self._key)
            except Exception:
                # Whatever is wrong with a draft tier: the target alone gives the same text.
                log.exception("draft_failed")
                return self._session.on_draft_failed()
            elapsed_ns = timed.queue_ns + timed.compute_ns
            tokens = len(timed.value.tokens)
            self._rounds.drafted(span, self._session.asked_tokens, tokens, elapsed_ns)
        return self._session.on_draft(timed.value, elapsed_ns)

    async def _give(self, event: GenerateEvent) -> None:
        try:
            await self._emit(event)
        except HolaError as error:
            raise _EmitFailed(error) from error
