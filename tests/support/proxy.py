"""A loopback TCP proxy that loses answers: what a broken connection does at the worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class LosingProxy:
    """Passes bytes both ways; once armed, it drops the next answer and its connection."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._answers_left: int | None = None
        self.port = 0
        self.lost = 0
        self._closing = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Close every connection."""
        self._closing.set()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def arm(self, after: int = 0) -> None:
        """Lose the answer that follows the next `after` ones."""
        self._answers_left = after

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client connection, until either side closes."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
        ways = {
            asyncio.create_task(self._pass(reader, upstream_writer)),
            asyncio.create_task(self._answer(upstream_reader, writer)),
            asyncio.create_task(self._closing.wait()),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for each in (writer, upstream_writer):
                each.close()
            await asyncio.gather(*ways, return_exceptions=True)
            await asyncio.gather(
                writer.wait_closed(), upstream_writer.wait_closed(), return_exceptions=True
            )

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()

    async def _answer(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if self._answers_left == 0:
                self._answers_left = None
                self.lost += 1
                return
            if self._answers_left is not None:
                self._answers_left -= 1
            sink.write(data)
            await sink.drain()


@asynccontextmanager
async def losing_proxy(host: str, port: int) -> AsyncIterator[LosingProxy]:
    """A running proxy to host:port on a free loopback port."""
    proxy = LosingProxy(host, port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
