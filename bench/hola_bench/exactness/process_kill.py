"""A drafter process killed with SIGKILL in mid-stream; another takes its jobs over."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from hola.bus.connect import open_bus
from hola.bus.ports import Bus
from hola.bus.streams import BusLimits
from hola.config import Settings
from hola.errors import BusUnavailable
from hola.ports import Engine, EngineInfo, EngineSession, Logits
from hola.telemetry import Metrics
from hola.types import Tokens
from hola_bench.cases import Case
from hola_bench.exactness.faults import batches, has_ended, read_journal
from hola_bench.exactness.plans import TOGETHER
from hola_bench.plan import Plan
from hola_bench.processes import environment, free_port, service, while_alive
from hola_bench.rig import Decoded, Rig
from hola_verifier.app import build

JOB_IDLE_S = 1.0
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
            environ = environment(
                rig.models,
                bus=url,
                verifier=verifier.address,
                listen="127.0.0.1:0",
                threads=1,
                concurrency=TOGETHER,
                job_idle_s=JOB_IDLE_S,
            )
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
    async with service("hola_drafter", {**environ, "HOLA_NAME": "first"}) as first:
        await while_alive(first, _all_underway(bus, jobs))
        first.kill()
        await first.wait()
    cut = {name for name in jobs if not await has_ended(bus, name)}
    async with service("hola_drafter", {**environ, "HOLA_NAME": "second"}) as second:
        for name, (_, case) in jobs.items():
            transcript = await while_alive(second, read_journal(bus, name))
            yield transcript.decoded(case, takeovers=int(name in cut))


async def _all_underway(bus: Bus, names: Iterable[str]) -> None:
    for name in names:
        await _underway(bus, name)


async def _underway(bus: Bus, request_id: str) -> None:
    """Return when a request has some tokens, or its end."""
    async for entry in bus.journal.follow(request_id):
        event = entry.event
        if isinstance(event, Tokens) and event.position + len(event.tokens) >= TOKENS_BEFORE_KILL:
            return


def _quick(listen: str) -> Settings:
    return Settings(listen=listen, drain_s=0)


@asynccontextmanager
async def _private_redis() -> AsyncIterator[str]:
    """A redis-server on a free loopback port, gone with the block."""
    binary = redis_server()
    if binary is None:
        raise BusUnavailable("redis-server is not installed", url="redis://127.0.0.1")
    port = free_port()
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
