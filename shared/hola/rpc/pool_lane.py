"""One stream at one verifier of a pool: what it owes, and why it was given up."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace

from hola.errors import (
    BadAnswer,
    EngineFailure,
    HolaError,
    Overloaded,
    ServiceUnavailable,
    SessionLost,
    VerifierUnavailable,
)
from hola.ports import VerifierLink
from hola.rpc.answers import check_answer
from hola.rpc.verifier_member import Member
from hola.types import CancelSession, DraftBlock, Verdict, VerifierRequest, VerifierResponse

# What the verifier, not the caller, is to blame for.
_ITS_FAULT = (SessionLost, VerifierUnavailable, ServiceUnavailable, Overloaded, EngineFailure)


class Lane:
    """A VerifierLink that keeps its member informed.

    `shift`: rounds of the session that were judged elsewhere; the verifier counts its own from 1.
    """

    def __init__(self, member: Member, link: VerifierLink, *, shift: int = 0) -> None:
        self.member = member
        self.seconds = 0.0
        self._link = link
        self._shift = shift
        # In the order of their answers: a CancelSession may follow a block at once.
        self._questions: deque[VerifierRequest] = deque()
        self._lost: SessionLost | None = None
        self._cutting: asyncio.Task[None] | None = None
        member.waiters.add(self)

    async def send(self, message: VerifierRequest) -> None:
        """Send a message. Raises SessionLost, or the error the verifier has ended with."""
        if self._lost is not None:
            raise self._lost
        if self._shift and isinstance(message, DraftBlock):
            message = replace(message, round=message.round - self._shift)
        if not isinstance(message, CancelSession):
            self.member.asked(self)
        self._questions.append(message)
        try:
            await self._link.send(message)
        except HolaError as error:
            raise self._ended(error) from None

    async def receive(self) -> VerifierResponse:
        """The answer to what was sent; `seconds` is what it took.

        Raises BadAnswer when it cannot be that, and as `send`.
        """
        if self._lost is not None:
            raise self._lost
        try:
            answer = await self._link.receive()
            check_answer(self._questions.popleft() if self._questions else None, answer)
        except HolaError as error:
            raise self._ended(error) from None
        self.seconds = self.member.answered(self, answer)
        if self._shift and isinstance(answer, Verdict):
            return replace(answer, round=answer.round + self._shift)
        return answer

    def abandon(self, why: SessionLost) -> None:
        """Raise `why` to whoever waits here, now and later."""
        self._lost = self._lost or why
        self._cutting = self._cutting or asyncio.create_task(self._link.close())

    async def close(self) -> None:
        """End the stream. Idempotent."""
        self.member.forgotten(self)
        self.member.waiters.discard(self)
        try:
            if self._cutting is not None:
                await asyncio.wait({self._cutting})
        finally:
            await self._link.close()

    def _ended(self, error: HolaError) -> HolaError:
        self.member.forgotten(self)
        error = self._lost or error
        if isinstance(error, _ITS_FAULT) or type(error) is HolaError:
            self.member.failed(error)
        if isinstance(error, BadAnswer):
            # Nothing that still comes on this stream can be trusted.
            self.abandon(error)
        return error
