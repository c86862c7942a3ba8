"""One Verify conversation's rules: Open first and once, then blocks, one terminal message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

from hola import tracing
from hola.errors import ProtocolViolation, SessionLost
from hola.telemetry import bind_ids
from hola.types import (
    CancelSession,
    Done,
    DraftBlock,
    Open,
    Opened,
    Verdict,
    VerifierRequest,
    VerifierResponse,
)
from hola_verifier.host import Session, VerifierHost
from hola_verifier.hosts import Hosts

T = TypeVar("T")
_LAST_WORDS_S = 1.0


class SessionStream:
    """Answers one stream's messages. Whoever drives it calls `detach` when the stream is over."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._host: VerifierHost = hosts.current
        self._session: Session | None = None
        self._opening = False
        self._listening: asyncio.Timeout | None = None
        hosts.door.enter(self)

    async def each(self, messages: AsyncIterable[T]) -> AsyncGenerator[T, None]:
        """The caller's messages as they come.

        Raises SessionLost when none came for as long as a session is kept, or no Open soon: a
        silent stream must not stay for ever. Raises SessionMoved once the verifier drains.
        """
        source = aiter(messages)
        while True:
            limit_s = self._limit_s()
            try:
                async with asyncio.timeout(limit_s) as self._listening:
                    message = await anext(source)
            except StopAsyncIteration:
                return
            except TimeoutError:
                self._check_staying()
                raise SessionLost(
                    f"the session was idle for {limit_s:g} s: open it again"
                ) from None
            finally:
                self._listening = None
            yield message
            self._check_staying()

    def interrupt(self) -> None:
        """Stop listening, if that is what the stream does now: `each` looks whether to go on."""
        if self._listening is not None and not self._listening.expired():
            self._listening.reschedule(asyncio.get_running_loop().time())

    async def answer(self, message: VerifierRequest) -> VerifierResponse:
        """The answer to the next message; Done is the last one.

        Raises ProtocolViolation on a message out of turn, and what `VerifierHost.open` and
        `verify` raise; the stream is over then.
        """
        match message:
            case DraftBlock():
                if self._session is None:
                    raise ProtocolViolation("a block before Open: open the session first")
                return await self._verify(self._session, message)
            case Open():
                if self._opening:
                    raise ProtocolViolation("Open was sent before: one session per stream")
                self._opening = True
                self._host = self._hosts.choose(message)
                return await self._open(message)
            case CancelSession():
                return self._finish()

    async def _open(self, message: Open) -> Opened:
        bind_ids(session_id=message.session_id)
        asked = {"hola.session_id": message.session_id, "hola.prompt_tokens": len(message.prompt)}
        with tracing.held("prefill", asked) as span:
            self._session, opened = await self._host.open(self, message)
            span.set({"hola.cached_tokens": opened.cached_tokens})
        return opened

    async def _verify(self, session: Session, block: DraftBlock) -> Verdict:
        asked = {"hola.round": block.round, "hola.draft_tokens": len(block.tokens)}
        with tracing.held("verify", asked) as span:
            verdict = await self._host.verify(self, session, block)
            span.set({"hola.accepted_tokens": verdict.accepted, "hola.queue_ns": verdict.queue_ns})
        return verdict

    def hang_up(self) -> Done:
        """The caller sends nothing more, without CancelSession: the session waits for a takeover.

        A cut stream can look like this, so it must not cost the cache.
        """
        rounds = 0 if self._session is None else self._host.rounds(self._session)
        self.detach()
        return Done(rounds=rounds)

    def detach(self) -> None:
        """The stream is over; a session that was not finished waits for a takeover. Idempotent."""
        if self._session is not None:
            self._host.detach(self, self._session)
            self._session = None
        self._host.door.leave(self)

    def _finish(self) -> Done:
        if self._session is None:
            return Done(rounds=0)
        session, self._session = self._session, None
        rounds = self._host.rounds(session)
        self._host.finish(self, session)
        return Done(rounds=rounds)

    def _limit_s(self) -> float:
        """How long the caller may be silent now.

        While the verifier drains a caller still gets to send its Open: a stream that ends under
        the first message does not say why.
        """
        limits = self._host.limits
        if self._host.door.draining:
            return min(limits.opening_s, _LAST_WORDS_S)
        return limits.ttl_s if self._opening else min(limits.opening_s, limits.ttl_s)

    def _check_staying(self) -> None:
        """Raises SessionMoved when the verifier drains; the session's cache is freed then."""
        if self._host.door.draining and self._session is not None:
            session, self._session = self._session, None
            self._host.move(self, session)
        self._host.door.check_staying()
