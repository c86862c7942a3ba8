"""Wakes those who wait in memory, as a blocking read of Redis would."""

from __future__ import annotations

import asyncio


class Signal:
    """Wakes everyone who waits, each time it is set."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake those who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Until the next `set`, at most timeout_s."""
        event = self._event
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return
