"""The bus of a verifier, which starts and serves without one and opens it when it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from hola.bus.from_settings import bus_from
from hola.bus.ports import Bus
from hola.compression.job import Release
from hola.config import Settings
from hola.errors import BusUnavailable, ConfigError


class LateBus:
    """One bus for all that a verifier says and hears. Use from one event loop.

    It is opened when it is first wanted; one that is `given` is used and not closed.
    """

    def __init__(self, settings: Settings, given: Bus | None = None) -> None:
        self._settings = settings
        self._given = given
        self._own: Bus | None = None
        self._opening = asyncio.Lock()

    async def get(self) -> Bus:
        """The bus. Raises ConfigError, and BusUnavailable: then it may be there another time."""
        async with self._opening:
            if self._given is None and self._own is None:
                self._own = await bus_from(self._settings)
        bus = self._given or self._own
        assert bus is not None
        return bus

    async def follow(self) -> AsyncGenerator[Release]:
        """Releases, from now on. Raises BusUnavailable, also for settings that cannot be used.

        Those end whoever announces; who only listens goes on looking at the store.
        """
        try:
            bus = await self.get()
        except ConfigError as error:
            raise BusUnavailable(error.message) from error
        async with aclosing(bus.releases.follow()) as releases:
            async for release in releases:
                yield release

    async def close(self) -> None:
        """Let go of what was opened. Idempotent."""
        own, self._own = self._own, None
        if own is not None:
            await own.close()
