"""Notices that a family in the store has other artifacts than the ones that run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress

from hola.compression.queue import ReleaseNews
from hola.errors import BusUnavailable, HolaError
from hola.models.family import Family
from hola.models.store import ModelStore
from hola.telemetry import get_logger

log = get_logger(__name__)

LOOK_S = 5.0
_BUS_PAUSE_S = 1.0

# Digests of the tiers that somebody runs, in any order that stays the same.
Digests = tuple[str, ...]


class FamilyWatch:
    """Looks at one family every `look_s` seconds, and at once when the bus tells of a release.

    What counts is the store: word on the bus only makes the look come sooner.
    """

    def __init__(
        self,
        store: ModelStore,
        model: str,
        releases: ReleaseNews | None = None,
        *,
        look_s: float = LOOK_S,
    ) -> None:
        self._store = store
        self._model = model
        self._releases = releases
        self._look_s = look_s
        self._told = asyncio.Event()

    async def changed(self, digests: Callable[[Family], Digests], running: Digests) -> Family:
        """The family, once `digests` of it are not `running` any more. Never raises HolaError.

        A family that cannot be read, for now or for good, has not changed.
        """
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                self._told.clear()
                family = await asyncio.to_thread(self._read)
                if family is not None and digests(family) != running:
                    return family
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._look_s):
                        await self._told.wait()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    def _read(self) -> Family | None:
        try:
            return self._store.get(self._model)
        except (HolaError, OSError) as error:
            log.warning("family_unreadable", model=self._model, why=str(error))
            return None

    async def _listen(self) -> None:
        while self._releases is not None:
            try:
                async with aclosing(self._releases.follow()) as releases:
                    async for release in releases:
                        if release.model == self._model:
                            self._told.set()
            except BusUnavailable as error:
                log.info("releases_missed", why=error.message)
                await asyncio.sleep(_BUS_PAUSE_S)
