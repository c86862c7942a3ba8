"""Keeps this verifier's record in the registry, for as long as it takes new sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hola.bus.ports import Bus
from hola.errors import BusUnavailable
from hola.rpc.channel import parse_address
from hola.telemetry import get_logger
from hola.types import VerifierInfo, VerifierRecord

log = get_logger(__name__)

BEAT_S = 2.0
# Two beats may be lost before drafters are told that this verifier is gone.
BEATS_TO_LIVE = 3


class Announcer:
    """Writes what `info` says every BEAT_S seconds, on the bus that `open_bus` gives."""

    def __init__(
        self,
        address: str,
        info: Callable[[], VerifierInfo],
        open_bus: Callable[[], Awaitable[Bus]],
        *,
        beat_s: float = BEAT_S,
    ) -> None:
        """`address` is where drafters reach the verifier. Raises ConfigError on a malformed one."""
        parse_address(address)
        self._address = address
        self._info = info
        self._open_bus = open_bus
        self._beat_s = beat_s
        self._bus: Bus | None = None
        self._withdrawn = False

    async def run(self) -> None:
        """Announce until cancelled; a bus that is away is tried again. Raises ConfigError."""
        is_heard = True
        while True:
            try:
                await self._announce()
                is_heard = True
            except BusUnavailable as error:
                if is_heard:
                    log.warning("not_announced", why=error.message)
                is_heard = False
            await asyncio.sleep(self._beat_s)

    async def withdraw(self) -> None:
        """Take the record back; a bus that is away forgets it by itself. Idempotent."""
        self._withdrawn = True
        if self._bus is not None:
            try:
                await self._bus.registry.withdraw(self._address)
            except BusUnavailable as error:
                log.warning("not_withdrawn", why=error.message)

    async def _announce(self) -> None:
        if self._bus is None:
            self._bus = await self._open_bus()
        if not self._withdrawn:
            record = VerifierRecord(address=self._address, info=self._info())
            await self._bus.registry.announce(record, ttl_s=BEATS_TO_LIVE * self._beat_s)
