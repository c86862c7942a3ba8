"""Service processes that share a Redis and a folder of sockets: started, killed, waited for."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

REPO = Path(__file__).resolve().parents[2]
SCRIPTED = "scripted:seed=7,eos_bias=-1000"
READY_S = 60.0


@dataclass
class Cluster:
    """Service processes that share a folder of sockets, a Redis and a model."""

    folder: Path
    bus: str
    model: str = SCRIPTED
    models_dir: Path = REPO / "models"
    settings: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def address(self, name: str) -> str:
        return f"unix://{self.folder}/{name}.sock"

    def start(self, service: str, name: str = "", **settings: str) -> None:
        """Start a service under a name of its own; does not wait."""
        name = name or service
        environ = {key: value for key, value in os.environ.items() if key[:5] != "HOLA_"}
        roots = [str(REPO / "shared"), str(REPO / "services")]
        environ["PYTHONPATH"] = os.pathsep.join([*roots, environ.get("PYTHONPATH", "")])
        environ |= {
            "HOLA_LISTEN": self.address(name),
            "HOLA_NAME": name,
            "HOLA_BUS": self.bus,
            "HOLA_MODEL": self.model,
            "HOLA_MODELS_DIR": str(self.models_dir),
            "HOLA_VERIFIER": self.address("verifier"),
            "HOLA_JOB_IDLE_S": "3",
            "HOLA_DRAIN_S": "1",
            "HOLA_THREADS": "1",
            "HOLA_LOG_LEVEL": "warning",
            **self.settings,
            **settings,
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"hola_{service}"], env=environ, stdout=log, stderr=log
            )

    async def ready(self, *names: str) -> None:
        """Wait until these serve; fails with the log of one that does not."""
        for name in names or tuple(self.processes):
            await self._ready(name)

    async def up(self) -> None:
        """Verifier, drafter and router, all serving."""
        for service in ("verifier", "drafter", "router"):
            self.start(service)
        await self.ready()

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(timeout=20)

    def terminate(self, name: str) -> int:
        """SIGTERM, and its exit code."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=20)

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    async def _ready(self, name: str) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            ended = self.processes[name].poll()
            assert ended is None, f"{name} ended with {ended}:\n{self.log(name)}"
            assert time.monotonic() < deadline, f"{name} does not serve:\n{self.log(name)}"
            if await _serves(self.address(name)):
                return
            await asyncio.sleep(0.05)


async def _serves(address: str) -> bool:
    async with grpc.aio.insecure_channel(address.replace("unix://", "unix:")) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.aio.AioRpcError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING
