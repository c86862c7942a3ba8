"""One session's line to a verifier: connects when first used, asks one question at a time."""

from __future__ import annotations

import asyncio
import time

from hola.errors import HolaError, ProtocolViolation, SessionLost, VerifierUnavailable
from hola.ports import VerifierLink, VerifierPort
from hola.telemetry import get_logger
from hola.types import (
    CancelSession,
    DraftBlock,
    Open,
    Opened,
    Verdict,
    VerifierRequest,
    VerifierResponse,
)
from hola_drafter.patience import Patience

log = get_logger(__name__)


class Line:
    """A link at a time, and the question that waits for its answer."""

    def __init__(self, verifier: VerifierPort, key: str, patience: Patience) -> None:
        self._verifier = verifier
        self._key = key
        self._patience = patience
        self._link: VerifierLink | None = None
        self._question: _Question | None = None

    @property
    def is_connected(self) -> bool:
        """Whether a verifier has taken the call, as far as is known."""
        return self._link is not None

    async def open(
        self, message: Open, *, fingerprint: str, connect_s: float
    ) -> tuple[Opened, int]:
        """Open a session; nanoseconds are those of the round trip.

        Connects first where there is no link, for at most `connect_s`. Raises VerifierUnavailable,
        SessionLost, ProtocolViolation for an answer of the wrong kind, and what the verifier
        refused with.
        """
        if self._link is None:
            self._link = await self._connect(fingerprint, connect_s)
        answer, elapsed_ns = await self._ask(self._link, message)
        if not isinstance(answer, Opened):
            raise _wrong_kind(message, answer)
        return answer, elapsed_ns

    async def verify(self, block: DraftBlock) -> tuple[Verdict, int]:
        """Have a block verified. Raises as `open`, and SessionLost where no session is open."""
        if self._link is None:
            raise SessionLost("there is no link to the verifier")
        answer, elapsed_ns = await self._ask(self._link, block)
        if not isinstance(answer, Verdict):
            raise _wrong_kind(block, answer)
        return answer, elapsed_ns

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

    async def drop(self) -> None:
        """Give the link up without a word: the next question goes over another one."""
        link, self._link = self._link, None
        question, self._question = self._question, None
        await self._let_go(link, question)

    async def _ask(
        self, link: VerifierLink, message: VerifierRequest
    ) -> tuple[VerifierResponse, int]:
        began_ns = time.perf_counter_ns()
        self._question = _Question(link, message)
        try:
            async with asyncio.timeout(self._patience.answer_s):
                answer = await asyncio.shield(self._question.answer)
        except TimeoutError:
            raise SessionLost(f"no answer within {self._patience.answer_s} s") from None
        return answer, time.perf_counter_ns() - began_ns

    async def _connect(self, fingerprint: str, connect_s: float) -> VerifierLink:
        try:
            async with asyncio.timeout(connect_s):
                return await self._verifier.connect(self._key, fingerprint=fingerprint)
        except TimeoutError:
            raise VerifierUnavailable(
                f"no connection to {self._verifier.address}", address=self._verifier.address
            ) from None

    @staticmethod
    async def _let_go(link: VerifierLink | None, question: _Question | None) -> None:
        """Close the link, also when this is cancelled while the question is being dropped."""
        try:
            await _drop(question)
        finally:
            if link is not None:
                await link.close()


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


def _wrong_kind(message: VerifierRequest, answer: VerifierResponse) -> ProtocolViolation:
    kinds = f"{type(answer).__name__} answers {type(message).__name__}"
    return ProtocolViolation(f"the verifier broke the contract: {kinds}")
