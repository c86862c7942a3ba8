"""Verifiers that announce themselves on Redis, and a drafter that finds them there."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import hola_drafter.app
import hola_verifier.app
from hola.bus.from_settings import bus_from
from hola.types import (
    Exactness,
    GenerateEvent,
    GenerateJob,
    SamplingParams,
    SpeculationParams,
    Summary,
)
from tests.support.scripted_system import ids_of
from tests.support.system import MODEL, PROMPT, settings_for, terminal, watched_target
from tests.support.verifier import WatchedEngine, reference

pytestmark = pytest.mark.redis
SAMPLING = SamplingParams(max_tokens=200, temperature=0.7, seed=11)
JOB = GenerateJob(
    request_id="r1",
    model=MODEL,
    prompt=PROMPT,
    sampling=SAMPLING,
    speculation=SpeculationParams(max_draft_tokens=1),
)


async def test_a_stream_moves_to_a_verifier_that_came_later(tmp_path: Path, redis_url: str) -> None:
    settings = settings_for(
        tmp_path,
        redis_url,
        verifier="registry:",
        drain_s=20.0,
        resolve_s=0.2,
        verifier_wait_s=60.0,
    )
    engines = [WatchedEngine(seed=7, eos_bias=-1000.0) for _ in range(2)]
    truth = reference(engines[0], SAMPLING.max_tokens, SAMPLING, tuple(PROMPT.encode()))

    def verifier(number: int) -> hola_verifier.app.VerifierApp:
        listen = f"unix://{tmp_path}/v{number}.sock"
        place = settings.model_copy(update={"listen": listen, "advertise": listen})
        return hola_verifier.app.build(place, target=watched_target(engines[number]))

    async with AsyncExitStack() as stack:
        bus = await bus_from(settings)
        stack.push_async_callback(bus.close)

        async def announced(*numbers: int) -> None:
            wanted = [f"unix://{tmp_path}/v{number}.sock" for number in numbers]
            async with asyncio.timeout(30):
                while [each.address for each in await bus.registry.verifiers()] != wanted:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

        first, second = verifier(0), verifier(1)
        for app in (first, second):
            stack.push_async_callback(app.stop)
        drafter = hola_drafter.app.build(settings)
        stack.push_async_callback(drafter.close)
        await drafter.open()
        await first.start()
        await announced(0)
        events: list[GenerateEvent] = []
        async with asyncio.timeout(90):
            async for event in drafter.drafter.generate(JOB):
                if len(events) == 20:
                    await second.start()
                    await announced(0, 1)
                    await first.stop()
                    await announced(1)
                events.append(event)
        summary = terminal(events)
        assert isinstance(summary, Summary)
        assert ids_of(events) == truth
        assert summary.exactness is Exactness.EXACT
        assert summary.reconnects >= 1
        assert engines[1].opened_sessions >= 1
