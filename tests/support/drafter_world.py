"""Drafter devices on a store that outlives them, with a clock that tests move."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hola.bus.memory import MemoryBus, MemoryStore
from hola.bus.streams import BusLimits
from hola.engines.worker import EngineWorker
from hola.errors import SessionLost
from hola.types import Failure, SpeculationParams, Started, Summary
from hola_drafter.drafter import Drafter
from hola_drafter.patience import Patience
from hola_drafter.worker import JobWorker
from tests.support.scripted_system import InProcessLink, InProcessVerifier, draft_model, job

IDLE_S = 1000.0
JOB = job(speculation=SpeculationParams(max_draft_tokens=3))


@dataclass
class Device:
    """One drafter process: its own bus connection, worker thread and job worker."""

    bus: MemoryBus
    engine_worker: EngineWorker
    worker: JobWorker
    running: asyncio.Task[None] | None = None

    def start(self, drain_s: float = 0.0) -> None:
        self.running = asyncio.create_task(self.worker.run(drain_s=drain_s))

    async def stop(self) -> None:
        self.worker.stop()
        if self.running is not None:
            await self.running
        await self.engine_worker.close()


@dataclass
class World:
    """A store that outlives devices, with a clock that tests move."""

    limits: BusLimits = field(
        default_factory=lambda: BusLimits(job_idle_s=IDLE_S, running_ttl_s=1e6, block_s=0.02)
    )
    now: float = 0.0

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=lambda: self.now)
        self.bus = self.connect()
        self.devices: list[Device] = []

    def connect(self) -> MemoryBus:
        return MemoryBus(store=self.store, limits=self.limits)

    def device(
        self,
        name: str,
        verifier: InProcessVerifier,
        *,
        concurrency: int = 2,
        idle_s: float = IDLE_S,
    ) -> Device:
        """A device that has not started to take jobs."""
        bus, engine_worker = self.connect(), EngineWorker(name)
        drafter = Drafter(
            draft_model(), verifier, engine_worker, patience=Patience(verifier_wait_s=5)
        )
        worker = JobWorker(
            bus,
            drafter,
            name=name,
            concurrency=concurrency,
            idle_s=idle_s,
            bus_patience_s=0.2,
        )
        device = Device(bus, engine_worker, worker)
        self.devices.append(device)
        return device

    async def events(self, request_id: str = "r1") -> list:
        """All events of a request, waiting for its end."""
        async with asyncio.timeout(20):
            return [entry.event async for entry in self.bus.journal.follow(request_id)]

    async def until_empty(self) -> None:
        """Wait until every job has been acknowledged."""
        async with asyncio.timeout(20):
            while self.store.queue.jobs:  # noqa: ASYNC110 - the worker's own tasks change it
                await asyncio.sleep(0.001)


def check_one_end(events):
    assert [e for e in events if isinstance(e, Summary | Failure)] == events[-1:]
    assert sum(isinstance(e, Started) for e in events) <= 1


@dataclass
class FarVerifier(InProcessVerifier):
    """One that can be out of reach until `back` is set."""

    back: asyncio.Event = field(default_factory=asyncio.Event)
    connects: int = 0

    def __post_init__(self) -> None:
        self.back.set()

    async def connect(self, session_id: str = "", *, fingerprint: str = "") -> InProcessLink:
        self.connects += 1
        await self.back.wait()
        return await super().connect(session_id, fingerprint=fingerprint)


def lose_at(verifier: FarVerifier, at: int) -> FarVerifier:
    """Lost at its message `at`, and out of reach until somebody sets `back`."""

    def fail(message: int) -> SessionLost | None:
        if message != at:
            return None
        verifier.back.clear()
        return SessionLost("gone")

    verifier.fail = fail
    return verifier
