"""A whole HOLA as processes: Redis, routers, drafters and verifiers, killed and restarted."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from hola.config import Settings
from hola.errors import BusUnavailable, HolaError
from hola.rpc.channel import open_channel
from hola_bench.chaos.namespaces import die_with_parent
from hola_bench.chaos.network import Network
from hola_bench.chaos.schedule import REDIS, Shape
from hola_bench.models import Models
from hola_bench.processes import environment

CHECK = "/grpc.health.v1.Health/Check"
START_S = 90.0
EXIT_S = 30.0
POLL_S = 0.1
PING_S = 1.0
LOG_TAIL_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended after SIGTERM: its code, and how long it took."""

    name: str
    code: int
    seconds: float


@dataclass(slots=True, kw_only=True)
class _Place:
    """One process, or where one is about to be."""

    name: str
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    channel: grpc.aio.Channel | None = field(default=None)


class Fleet:
    """Processes of one run.

    `settings` are HOLA_* settings by role, in lower case; those of role "" are everybody's.
    """

    def __init__(
        self,
        shape: Shape,
        models: Models,
        network: Network,
        folder: Path,
        settings: Mapping[str, Mapping[str, object]],
    ) -> None:
        self._shape = shape
        self._models = models
        self._network = network
        self._folder = folder
        self._settings = settings
        self._places: dict[str, _Place] = {}
        self.exits: list[Exit] = []

    @property
    def names(self) -> tuple[str, ...]:
        """Every process, Redis first."""
        roles = (REDIS, "verifier", "drafter", "router")
        return tuple(name for role in roles for name in self._shape.names(role))

    @property
    def routers(self) -> dict[str, str]:
        """Where clients reach each router."""
        return {name: self._network.reach(name) for name in self._shape.names("router")}

    @property
    def verifiers(self) -> dict[str, str]:
        """Where each verifier is reached."""
        return {name: self._network.reach(name) for name in self._shape.names("verifier")}

    @property
    def bus(self) -> str:
        """The URL of Redis."""
        return self._bus_url("")

    def pid(self, name: str) -> int | None:
        """The process's id while it runs."""
        process = self._places[name].process
        return None if process is None or process.returncode is not None else process.pid

    async def up(self) -> None:
        """Start everything and wait until all of it serves. Raises HolaError with a log's end."""
        for name in self.names:
            await self._network.place(name)
            self._places[name] = _Place(name=name)
        await self.start(REDIS)
        await self.healthy(REDIS)
        for name in self.names[1:]:
            await self.start(name)
        for name in self.names:
            await self.healthy(name)

    async def start(self, name: str) -> None:
        """Start a process that does not run; does not wait until it serves."""
        place = self._places[name]
        command = self._network.inside(name, self._command(name))
        with (self._folder / f"{name}.log").open("ab") as log:
            place.process = await asyncio.create_subprocess_exec(
                *command,
                env=self._environ(name),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        place.starts += 1

    async def kill(self, name: str) -> None:
        """SIGKILL."""
        process = self._running(name)
        process.kill()
        await process.wait()

    async def terminate(self, name: str) -> Exit:
        """SIGTERM, and how it ended; one that does not is killed and has code -9."""
        process, began = self._running(name), time.monotonic()
        process.terminate()
        try:
            async with asyncio.timeout(EXIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        code = process.returncode if process.returncode is not None else -signal.SIGKILL
        ended = Exit(name=name, code=code, seconds=time.monotonic() - began)
        self.exits.append(ended)
        return ended

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal, e.g. SIGSTOP."""
        self._running(name).send_signal(number)

    async def healthy(self, name: str, limit_s: float = START_S) -> None:
        """Wait until a process serves. Raises HolaError with its log when it ends or is late."""
        deadline = time.monotonic() + limit_s
        while not await self._serves(name):
            process = self._places[name].process
            if process is not None and process.returncode is not None:
                raise HolaError(f"{name} ended with {process.returncode}:\n{self.log(name)}")
            if time.monotonic() > deadline:
                raise HolaError(f"{name} does not serve after {limit_s:g} s:\n{self.log(name)}")
            await asyncio.sleep(POLL_S)

    def log(self, name: str) -> str:
        """The end of a process's log."""
        text = (self._folder / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])

    async def down(self) -> None:
        """Kill everything that still runs. Idempotent."""
        for place in self._places.values():
            if place.process is not None and place.process.returncode is None:
                place.process.kill()
                await place.process.wait()
            if place.channel is not None:
                channel, place.channel = place.channel, None
                await channel.close()

    def _running(self, name: str) -> asyncio.subprocess.Process:
        process = self._places[name].process
        if process is None or process.returncode is not None:
            raise HolaError(f"{name} does not run:\n{self.log(name)}")
        return process

    def _command(self, name: str) -> Sequence[str]:
        if name != REDIS:
            return [sys.executable, "-m", f"hola_{name.partition('-')[0]}"]
        binary = shutil.which("redis-server")
        if binary is None:
            raise BusUnavailable("redis-server is not installed", url="redis://127.0.0.1")
        listen = self._network.listen(REDIS)
        where = ["--port", "0", "--unixsocket", listen.removeprefix("unix://")]
        if not listen.startswith("unix:"):
            host, _, port = listen.rpartition(":")
            where = ["--bind", host, "--port", port, "--protected-mode", "no"]
        # What was acknowledged is on the disk.
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        return [binary, *where, "--dir", str(self._folder), *durable]

    def _environ(self, name: str) -> dict[str, str]:
        verifiers = (self._network.reach(each, name) for each in self._shape.names("verifier"))
        own: dict[str, object] = {
            "name": name,
            "listen": self._network.listen(name),
            "bus": self._bus_url(name),
            "verifier": ",".join(verifiers),
            "threads": 1,
            "insecure": 1,
            "log_format": "json",
            **self._settings.get("", {}),
            **self._settings.get(name.partition("-")[0], {}),
        }
        return {**environment(self._models, **own), "HOLA_LOG_LEVEL": "info"}

    def _bus_url(self, peer: str) -> str:
        address = self._network.reach(REDIS, peer)
        return address if address.startswith("unix:") else f"redis://{address}/0"

    async def _serves(self, name: str) -> bool:
        if name == REDIS:
            return await self._redis_answers()
        place = self._places[name]
        if place.channel is None:
            place.channel = open_channel(self._network.reach(name), Settings(insecure=True))
        check: Any = place.channel.unary_unary(
            CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=PING_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def _redis_answers(self) -> bool:
        address = self._network.reach(REDIS)
        try:
            async with asyncio.timeout(PING_S):
                if address.startswith("unix:"):
                    path = address.removeprefix("unix://")
                    reader, writer = await asyncio.open_unix_connection(path)
                else:
                    host, _, port = address.rpartition(":")
                    reader, writer = await asyncio.open_connection(host, int(port))
                with contextlib.closing(writer):
                    writer.write(b"PING\r\n")
                    answer = await reader.readline()
        except (OSError, TimeoutError):
            return False
        return answer.startswith(b"+PONG")
