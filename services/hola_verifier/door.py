"""Who is inside a verifier, and how they are asked to leave when it drains."""

from __future__ import annotations

import asyncio
from typing import Protocol

from hola.errors import SessionMoved
from hola.telemetry import get_logger

log = get_logger(__name__)


class Guest(Protocol):
    """A conversation that may be waiting for its caller's next message."""

    def interrupt(self) -> None:
        """Look whether to stay, instead of waiting on."""
        ...


class Door:
    """The conversations under way. Use from one event loop."""

    def __init__(self) -> None:
        self._guests: set[Guest] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False

    def enter(self, guest: Guest) -> None:
        """A conversation begins; `leave` ends it."""
        self._guests.add(guest)
        self._empty.clear()

    def leave(self, guest: Guest) -> None:
        """A conversation is over. Idempotent."""
        self._guests.discard(guest)
        if not self._guests:
            self._empty.set()

    async def drain(self, timeout_s: float) -> bool:
        """From now on nobody stays: those who wait go now, the others when they look.

        Waits up to timeout_s seconds for the last one; whether none is left.
        """
        self.draining = True
        for guest in list(self._guests):
            guest.interrupt()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            log.warning("streams_left_after_drain", streams=len(self._guests))
            return False
        return True

    def check_staying(self, session_id: str = "") -> None:
        """Raises SessionMoved once it drains."""
        if self.draining:
            raise SessionMoved(
                "this verifier drains: open the session at another one", session_id=session_id
            )
