"""Relays on unix sockets in front of every process: a network that can be spoilt without root."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hola_bench.chaos.schedule import REDIS, Kind

CHUNK = 65536
# What a lost segment costs a TCP connection at least: the retransmission timeout, seconds.
RETRANSMIT_S = 0.2


@dataclass(slots=True)
class _Weather:
    """How a place's links are now."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    delay_s: float = 0.0
    loss: float = 0.0


class Relays:
    """A `Network` in one machine: each process behind a relay, and each with its own to Redis."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._rng = random.Random(f"relays {seed}")
        self._weather: dict[str, _Weather] = {}
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def links(self) -> frozenset[Kind]:
        """All three, by holding bytes back."""
        return frozenset({Kind.CUT, Kind.LOSE, Kind.DELAY})

    @property
    def notes(self) -> dict[str, str]:
        """What stands in for what."""
        return {
            "network": "relays on unix sockets; a lost packet is a pause of 0.2 s",
            "netem": "skipped (no network namespaces)",
        }

    async def place(self, name: str) -> None:
        """A relay in front of the process and, but for Redis itself, one between it and Redis."""
        weather = _Weather()
        weather.open.set()
        self._weather[name] = weather
        await self._relay((name,), self._socket(name), self._path(self.reach(name)))
        if name != REDIS:
            way = self._path(self.reach(REDIS, name))
            await self._relay((name, REDIS), self._socket(REDIS), way)

    def listen(self, name: str) -> str:
        """The socket behind the relay."""
        return f"unix://{self._socket(name)}"

    def reach(self, name: str, peer: str = "") -> str:
        """The relay's socket; Redis has one for each peer."""
        by = f".by-{peer}" if name == REDIS and peer else ""
        return f"unix://{self._folder}/{name}{by}.sock"

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """Nothing to enter."""
        return list(command)

    async def spoil(self, name: str, kind: Kind, amount: float) -> None:
        """CUT holds everything back, as a network would that may yet come back."""
        weather = self._weather[name]
        if kind is Kind.CUT:
            weather.open.clear()
        elif kind is Kind.LOSE:
            weather.loss = amount
        else:
            weather.delay_s = amount

    async def heal(self, name: str) -> None:
        """Let everything through."""
        weather = self._weather[name]
        weather.delay_s = weather.loss = 0.0
        weather.open.set()

    async def close(self) -> None:
        """Close every relay and connection."""
        self._closed = True
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _socket(self, name: str) -> Path:
        return self._folder / f"{name}.own.sock"

    @staticmethod
    def _path(address: str) -> Path:
        return Path(address.removeprefix("unix://"))

    async def _relay(self, names: Sequence[str], behind: Path, front: Path) -> None:
        # No coroutine: the task of one could be cancelled before its first step.
        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._closed:
                writer.close()
                return
            task = asyncio.create_task(self._join(names, behind, reader, writer))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            # Whatever ended it: a task that is cancelled before its first step runs no `finally`.
            task.add_done_callback(lambda _: writer.close())

        self._servers.append(await asyncio.start_unix_server(serve, front))

    async def _join(
        self,
        names: Sequence[str],
        behind: Path,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """One connection, until either side closes it; `writer` is closed by the caller."""
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(behind)
        except OSError:
            return
        # However it ends: it may be cancelled once more while it waits for its two ways.
        with contextlib.closing(far_writer):
            ways = [
                asyncio.create_task(self._pass(names, reader, far_writer)),
                asyncio.create_task(self._pass(names, far_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)

    async def _pass(
        self, names: Sequence[str], source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        """Copy bytes through the weather of every place on the way."""
        while data := await source.read(CHUNK):
            for weather in [self._weather[name] for name in names if name in self._weather]:
                if weather.delay_s:
                    await asyncio.sleep(self._rng.uniform(0.0, weather.delay_s))
                if weather.loss and self._rng.random() < weather.loss:
                    await asyncio.sleep(RETRANSMIT_S)
                await weather.open.wait()
            sink.write(data)
            await sink.drain()
