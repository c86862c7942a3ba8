"""Stops verifier links in mid-stream, so that a crash can be made to hit there and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hola.errors import SessionLost
from hola.ports import VerifierLink, VerifierPort
from hola.types import (
    CancelSession,
    Open,
    Verdict,
    VerifierInfo,
    VerifierRequest,
    VerifierResponse,
)

MOST_WAIT_S = 300.0


class HeldVerifier:
    """A VerifierPort whose sessions each stop before the verdict that `hold_at` numbers.

    `hold_at(session_id)` is the number of verdicts a session gets before it is held, once;
    `stopped` counts the sessions that are held or over, `release` lets all go on.
    """

    def __init__(self, inner: VerifierPort, hold_at: Callable[[str], int]) -> None:
        self._inner = inner
        self._hold_at = hold_at
        self._released = asyncio.Event()
        self._stopped = asyncio.Condition()
        self._names: set[str] = set()

    @property
    def address(self) -> str:
        """The inner verifier's."""
        return self._inner.address

    async def info(self) -> VerifierInfo:
        """The inner verifier's."""
        return await self._inner.info()

    async def connect(self, session_id: str = "", *, fingerprint: str = "") -> VerifierLink:
        """A link that will stop."""
        return _HeldLink(self, await self._inner.connect(session_id, fingerprint=fingerprint))

    async def close(self) -> None:
        """Close the inner verifier."""
        await self._inner.close()

    def release(self) -> None:
        """Let every session go on, now and later."""
        self._released.set()

    async def note_stopped(self, name: str) -> None:
        """A session is held, or has ended before it was."""
        async with self._stopped:
            self._names.add(name)
            self._stopped.notify_all()

    async def wait_stopped(self, names: set[str]) -> None:
        """Return when all these sessions are held or over. Raises TimeoutError after a while."""
        async with asyncio.timeout(MOST_WAIT_S), self._stopped:
            await self._stopped.wait_for(lambda: names <= self._names)

    async def pass_or_hold(self, name: str, verdicts: int) -> None:
        """Called before a session's next verdict is received."""
        if verdicts >= self._hold_at(name) and not self._released.is_set():
            await self.note_stopped(name)
            await self._released.wait()


class _HeldLink:
    """One link, counting its verdicts."""

    def __init__(self, port: HeldVerifier, inner: VerifierLink) -> None:
        self._port = port
        self._inner = inner
        self._name = ""
        self._verdicts = 0
        self._opened = False
        self._held = False

    async def send(self, message: VerifierRequest) -> None:
        """As the inner link's, but a session that dies while it is held says no goodbye.

        Raises SessionLost for that goodbye.
        """
        if isinstance(message, Open):
            self._name = message.session_id
        if self._held and isinstance(message, CancelSession):
            raise SessionLost("held: the peer is to be surprised")
        await self._inner.send(message)

    async def receive(self) -> VerifierResponse:
        """As the inner link's, but held when it is time."""
        if self._opened:
            self._held = True
            await self._port.pass_or_hold(self._name, self._verdicts)
            self._held = False
        answer = await self._inner.receive()
        self._opened = True
        self._verdicts += isinstance(answer, Verdict)
        return answer

    async def close(self) -> None:
        """As the inner link's."""
        await self._inner.close()
