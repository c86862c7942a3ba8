"""A handshake over a long way: the first attempt is given the time it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hola.config import Settings
from hola.errors import ServiceUnavailable
from hola.rpc.channel import open_channel, wait_ready
from tests.support.rpc import read_all, running_kinds, start_call
from tests.support.security import Pki

ONE_WAY_S = 0.15


@dataclass
class LongWay:
    """Passes bytes on after ONE_WAY_S seconds; counts the connections."""

    target: tuple[str, int]
    connections: int = 0
    ways: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self.ways.add(asyncio.create_task(self._pass(source, sink)))

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await asyncio.sleep(ONE_WAY_S)
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()


@asynccontextmanager
async def long_way_to(address: str) -> AsyncIterator[tuple[LongWay, str]]:
    host, _, port = address.partition("://")[2].rpartition(":")
    way = LongWay((host, int(port)))
    server = await asyncio.start_server(way.serve, "127.0.0.1", 0)
    try:
        yield way, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in way.ways:
            task.cancel()
        await asyncio.gather(*way.ways, return_exceptions=True)


async def test_one_attempt_is_enough(pki: Pki) -> None:
    async with (
        running_kinds(**pki.settings("verifier")) as rig,
        long_way_to(rig.server.address) as (way, address),
    ):
        channel = open_channel(address, Settings(**pki.settings("drafter")))
        await wait_ready(channel, 30, ServiceUnavailable("no connection"))
        assert await read_all(start_call(channel, "unary_unary")) == ["x"]
        await channel.close()
    assert way.connections == 1
