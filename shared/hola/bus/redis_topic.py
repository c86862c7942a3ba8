"""A topic on Redis: one short stream that every process which follows it reads."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import cast

from hola.bus.redis_link import RawEntry, RedisLink, milliseconds
from hola.bus.streams import PAYLOAD_FIELD, START_ID
from hola.errors import BusUnavailable

KEPT = 1024
TTL_S = 3600.0


class RedisTopic:
    """A stream of about KEPT payloads, read from where it ends when somebody begins to follow.

    One blocking read serves a whole process, on a connection of its own.
    """

    def __init__(self, link: RedisLink, name: str) -> None:
        self._link = link
        self._key = f"{link.keys.prefix}:{name}"
        self._is_closed = False

    async def tell(self, payload: bytes) -> None:
        """Tell everybody who follows. Raises BusUnavailable."""

        async def tell(_: bool) -> None:
            async with self._link.commands.pipeline(transaction=False) as pipeline:
                pipeline.xadd(self._key, {PAYLOAD_FIELD: payload}, maxlen=KEPT)
                pipeline.pexpire(self._key, milliseconds(TTL_S))
                await pipeline.execute()

        await self._link.call(tell)

    async def follow(self) -> AsyncGenerator[bytes]:
        """Payloads, from the first step on. Raises BusUnavailable."""
        last = await self._last_id()
        block = milliseconds(self._link.limits.block_s)
        while True:
            position = last

            async def read(_: bool, after: str = position) -> object:
                if self._is_closed:
                    raise BusUnavailable("the bus is closed", url=self._link.url)
                return await self._link.takes.xread({self._key: after}, block=block)

            found = cast(list[tuple[bytes, list[RawEntry]]], await self._link.call(read))
            for raw_id, fields in found[0][1] if found else ():
                last = raw_id.decode()
                yield fields.get(PAYLOAD_FIELD, b"")

    def close(self) -> None:
        """Let the followers end when the connections are closed. Idempotent."""
        self._is_closed = True

    async def _last_id(self) -> str:
        found = await self._link.call(lambda _: self._link.commands.xrevrange(self._key, count=1))
        newest = cast(list[RawEntry], found)
        return newest[0][0].decode() if newest else START_ID
