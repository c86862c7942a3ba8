"""Real verifier processes that are killed, stopped and terminated while a drafter streams."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import hola_drafter.app
from hola.bus.memory import MemoryBus
from hola.types import (
    Exactness,
    GenerateEvent,
    GenerateJob,
    SamplingParams,
    SpeculationParams,
    Summary,
)
from hola_drafter.app import DrafterApp
from tests.support.process import SCRIPTED, ServiceProcess, running_service
from tests.support.scripted_system import ids_of
from tests.support.system import settings_for, terminal
from tests.support.verifier import WatchedEngine, reference

SAMPLING = SamplingParams(max_tokens=500, temperature=0.7, seed=11)
PROMPT = "Tom has 12 apples."
COUNT = 3


class Station:
    """Three verifier processes and a drafter that knows all of them."""

    def __init__(self, drafter: DrafterApp, processes: list[ServiceProcess]) -> None:
        self.drafter = drafter
        self.processes = processes
        self._next = 0

    async def generate(self, request_id: str, *, fault: signal.Signals) -> list[GenerateEvent]:
        """All events of a request during which each verifier but the last gets the signal."""
        job = GenerateJob(
            request_id=request_id,
            model=SCRIPTED,
            prompt=PROMPT,
            sampling=SAMPLING,
            speculation=SpeculationParams(max_draft_tokens=1),
        )
        events: list[GenerateEvent] = []
        async for event in self.drafter.drafter.generate(job):
            if len(events) in (40, 120) and self._next < COUNT - 1:
                self.processes[self._next].signal(fault)
                self._next += 1
            events.append(event)
        return events


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Station]:
    async with AsyncExitStack() as stack:
        listens = [f"unix://{tmp_path}/verifier-{number}.sock" for number in range(COUNT)]
        processes = []
        for listen in listens:
            service = running_service(
                "hola_verifier",
                HOLA_MODEL=SCRIPTED,
                HOLA_LISTEN=listen,
                HOLA_DRAIN_S="30",
                HOLA_MEMORY_BUDGET_MB="64",
            )
            processes.append(await stack.enter_async_context(service))
        for process in processes:
            await process.event("serving")
        settings = settings_for(
            tmp_path,
            "memory:",
            model=SCRIPTED,
            verifier=",".join(listens),
            detect_s=1.0,
            verifier_wait_s=60.0,
            answer_timeout_s=120.0,
        )
        drafter = hola_drafter.app.build(settings, bus=MemoryBus())
        stack.push_async_callback(drafter.close)
        await drafter.open()
        yield Station(drafter, processes)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
async def test_the_text_is_the_target_s_own_whatever_happens(
    station: Station, fault: signal.Signals
) -> None:
    """Eight streams at once; two of three verifiers are lost in their middle."""
    truth = reference(
        WatchedEngine(seed=1, eos_bias=-1e9), SAMPLING.max_tokens, SAMPLING, tuple(PROMPT.encode())
    )
    async with asyncio.timeout(100):
        streams = await asyncio.gather(
            *(station.generate(f"r{number}", fault=fault) for number in range(8))
        )
    for number, events in enumerate(streams):
        summary = terminal(events)
        assert isinstance(summary, Summary), f"r{number}: {summary}"
        assert ids_of(events) == truth, f"r{number}"
        assert summary.exactness is Exactness.EXACT
    assert sum(terminal(events).reconnects for events in streams) > 0  # type: ignore[union-attr]
    if fault is signal.SIGTERM:
        for process in station.processes[: COUNT - 1]:
            assert await process.exit_code() == 0
