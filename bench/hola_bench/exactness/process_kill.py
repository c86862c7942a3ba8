"""A drafter process killed with SIGKILL in mid-stream; another takes its jobs over."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from hola.bus.connect import open_bus
from hola.bus.streams import BusLimits
from hola.config import Settings
from hola.errors import BusUnavailable
from hola.ports import Bus, Engine, EngineInfo, EngineSession, Logits
from hola.telemetry import Metrics
from hola.types import Tokens
from hola_bench.exactness.cases import Case, Decoded
from hola_bench.exactness.faults import batches, read_journal
from hola_bench.exactness.plans import Plan
from hola_bench.exactness.rig import Rig
from hola_verifier.app import build

JOB_IDLE_S = 1.0
START_S = 60.0
PAUSE_S = 0.03
TOKENS_BEFORE_KILL = 3


def redis_server() -> str | None:
    """Path of redis-server, which a bus between processes needs."""
    return shutil.which("redis-server")


class Paced:
    """The target with a pause per pass, so that a stream lasts long enough to be hit."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def info(self) -> EngineInfo:
        """The engine's."""
        return self._engine.info

    def open(self, capacity: int) -> EngineSession:
        """A session that pauses."""
        return _PacedSession(self._engine.open(capacity))

    def close(self) -> None:
        """Leave the engine as it is: it is the bench's."""


class _PacedSession:
    """The inner session, each forward pass after a pause."""

    def __init__(self, inner: EngineSession) -> None:
        self._inner = inner

    @property
    def length(self) -> int:
        return self._inner.length

    @property
    def capacity(self) -> int:
        return self._inner.capacity

    def forward(self, tokens: Sequence[int]) -> Logits:
        time.sleep(PAUSE_S)
        return self._inner.forward(tokens)

    def prefill(self, tokens: Sequence[int]) -> None:
        self._inner.prefill(tokens)

    def truncate(self, length: int) -> None:
        self._inner.truncate(length)

    def close(self) -> None:
        self._inner.close()


async def killed(rig: Rig, plan: Plan, cases: Sequence[Case]) -> AsyncIterator[Decoded]:
    """Each case through Redis, drafted by a real process that is killed after a few tokens.

    Raises BusUnavailable without redis-server.
    """
    target = replace(rig.target, engine=Paced(rig.engines.target))
    verifier = build(_quick("127.0.0.1:0"), Metrics(), target=target)
    await verifier.start()
    try:
        async with _private_redis() as url:
            bus = await open_bus(url, limits=BusLimits(job_idle_s=JOB_IDLE_S))
            environ = _environ(rig, url, verifier.address)
            try:
                for batch in batches(cases):
                    async for decoded in _one_batch(rig, plan, batch, bus, environ):
                        yield decoded
            finally:
                await bus.close()
    finally:
        await verifier.stop()


async def _one_batch(
    rig: Rig, plan: Plan, batch: Sequence[Case], bus: Bus, environ: Mapping[str, str]
) -> AsyncIterator[Decoded]:
    jobs = {job.request_id: (job, case) for case in batch if (job := rig.job(plan, case))}
    for job, _ in jobs.values():
        await bus.jobs.publish(job)
    async with _drafter(environ, "first") as first:
        async with asyncio.timeout(START_S):
            for name in jobs:
                await _underway(bus, name)
        first.kill()
        await first.wait()
    cut = {name for name in jobs if not (await _so_far(bus, name))[1]}
    async with _drafter(environ, "second"), asyncio.timeout(START_S):
        for name, (_, case) in jobs.items():
            transcript = await read_journal(bus, name)
            yield transcript.decoded(case, takeovers=int(name in cut))


async def _underway(bus: Bus, request_id: str) -> None:
    """Return when a request has some tokens, or its end."""
    async for entry in bus.journal.follow(request_id):
        event = entry.event
        if isinstance(event, Tokens) and event.position + len(event.tokens) >= TOKENS_BEFORE_KILL:
            return


async def _so_far(bus: Bus, request_id: str) -> tuple[int, bool]:
    """Entries in a journal, and whether it has ended."""
    entries = await bus.journal.read(request_id)
    return len(entries), bool(entries) and type(entries[-1].event).__name__ in _TERMINAL


_TERMINAL = ("Summary", "Failure")


@asynccontextmanager
async def _drafter(
    environ: Mapping[str, str], name: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A drafter process; ended when the block is left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hola_drafter",
        env={**environ, "HOLA_NAME": name},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _environ(rig: Rig, bus_url: str, verifier: str) -> dict[str, str]:
    """The settings of a drafter process: this one's environment but for HOLA_* and paths."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLA_")}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "HOLA_BUS": bus_url,
        "HOLA_VERIFIER": verifier,
        "HOLA_LISTEN": "127.0.0.1:0",
        "HOLA_MODEL": rig.models.name,
        "HOLA_MODELS_DIR": str(Path(rig.models.target).parents[1]),
        "HOLA_THREADS": "1",
        "HOLA_CONCURRENCY": "8",
        "HOLA_JOB_IDLE_S": str(JOB_IDLE_S),
    }


def _quick(listen: str) -> Settings:
    return Settings(listen=listen, drain_s=0)


@asynccontextmanager
async def _private_redis() -> AsyncIterator[str]:
    """A redis-server on a free loopback port, gone with the block."""
    binary = redis_server()
    if binary is None:
        raise BusUnavailable("redis-server is not installed", url="redis://127.0.0.1")
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="hola-bench-") as folder:
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        process = await asyncio.create_subprocess_exec(
            binary,
            *arguments,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
