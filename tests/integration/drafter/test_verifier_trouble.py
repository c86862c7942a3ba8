"""A drafter in front of a real gRPC verifier that restarts, moves, or is the wrong one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

import hola_drafter.app
import hola_verifier.app
from hola.bus.memory import MemoryBus
from hola.types import (
    Exactness,
    Failure,
    GenerateJob,
    Mode,
    SamplingParams,
    SpeculationParams,
    Summary,
    Tokens,
)
from tests.support.scripted_system import ids_of
from tests.support.system import MODEL, PROMPT, settings_for, terminal, watched_target
from tests.support.verifier import WatchedEngine, reference

SAMPLING = SamplingParams(max_tokens=40, temperature=0.7, seed=11)
JOB = GenerateJob(
    request_id="r1",
    model=MODEL,
    prompt=PROMPT,
    sampling=SAMPLING,
    speculation=SpeculationParams(max_draft_tokens=3),
)


class Station:
    """A place where verifiers come and go, and a drafter that depends on it."""

    def __init__(self, folder, **changes):
        listen = f"unix://{folder}/verifier.sock"
        changes = {"drain_s": 0.0, **changes}
        self.settings = settings_for(folder, "memory:", listen=listen, **changes)
        self.engine = WatchedEngine(seed=7, eos_bias=-1000.0)
        self.verifier = None
        self.drafter = hola_drafter.app.build(self.settings, bus=MemoryBus())

    async def up(self, **target):
        """Start a verifier whose target has these changes."""
        made = replace(watched_target(self.engine), **target)
        self.verifier = hola_verifier.app.build(self.settings, target=made)
        await self.verifier.start()

    async def down(self):
        """End the verifier without waiting for its streams."""
        await self.verifier.stop()
        self.verifier = None

    async def generate(self, job=JOB, *, at_event=None):
        """All events; `at_event` maps an event's index to what is done when it arrives."""
        events = []
        async for event in self.drafter.drafter.generate(job):
            if at_event and len(events) in at_event:
                await at_event[len(events)]()
            events.append(event)
        return events


@asynccontextmanager
async def station(folder, **changes):
    made = Station(folder, **changes)
    await made.drafter.open()
    try:
        yield made
    finally:
        made.engine.release()
        await made.drafter.close()
        if made.verifier is not None:
            await made.verifier.stop()


def expected(made):
    return reference(made.engine, SAMPLING.max_tokens, SAMPLING, tuple(PROMPT.encode()))


@pytest.mark.parametrize("restart_at", [1, 2, 5, 9])
async def test_a_restarted_verifier_changes_nothing(tmp_path, restart_at):
    async with station(tmp_path) as made:
        await made.up()

        async def restart():
            await made.down()
            await made.up()

        events = await made.generate(at_event={restart_at: restart})
        assert ids_of(events) == expected(made)
        assert terminal(events).reconnects >= 1
        assert terminal(events).exactness is Exactness.EXACT


async def test_a_verifier_that_comes_late_is_waited_for(tmp_path):
    async with station(tmp_path) as made:
        running = asyncio.create_task(made.generate())
        await asyncio.sleep(0.3)
        await made.up()
        assert ids_of(await running) == expected(made)


async def test_no_verifier_is_a_failure_in_time(tmp_path):
    async with station(tmp_path, verifier_wait_s=0.3, connect_timeout_s=0.2) as made:
        events = await made.generate()
        assert [type(event) for event in events] == [Failure]
        assert events[0].reason == "VERIFIER_UNAVAILABLE"
        assert events[0].grpc_code == 14


async def test_other_numerics_in_mid_stream_are_marked(tmp_path):
    async with station(tmp_path) as made:
        await made.up()
        fingerprint = replace(watched_target(made.engine).fingerprint, digest="0" * 64)

        async def move():
            await made.down()
            await made.up(fingerprint=fingerprint)

        events = await made.generate(at_event={4: move})
        assert events[0].exactness is Exactness.EXACT
        assert terminal(events).exactness is Exactness.DEGRADED


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"tokenizer_fingerprint": "0" * 64}, "TOKENIZER_MISMATCH"),
        ({"model": "another"}, "UNKNOWN_MODEL"),
    ],
)
async def test_the_wrong_verifier_is_a_failure(tmp_path, wrong, reason):
    async with station(tmp_path) as made:
        await made.up(**wrong)
        events = await made.generate()
        assert [event.reason for event in events] == [reason]
        await made.down()
        await made.up()
        assert isinstance(terminal(await made.generate()), Summary)


async def test_a_verifier_without_memory_says_the_numbers(tmp_path):
    async with station(tmp_path, memory_budget_mb=1) as made:
        made.engine = WatchedEngine(seed=7, kv_bytes_per_token=2**20)
        await made.up()
        (failure,) = await made.generate()
        assert failure.reason == "MEMORY_BUDGET_EXCEEDED"
        assert int(failure.details["needed_bytes"]) > int(failure.details["available_bytes"])


async def test_gated_mode_reports_its_agreement(tmp_path):
    async with station(tmp_path) as made:
        await made.up()
        gated = SpeculationParams(mode=Mode.GATED, entropy_threshold=100.0, max_draft_tokens=3)
        events = await made.generate(replace(JOB, speculation=gated))
        summary = terminal(events)
        assert summary.exactness is Exactness.GATED
        assert summary.unverified_tokens > 0
        assert 0 < summary.agreed_tokens <= summary.unverified_tokens
        assert any(isinstance(event, Tokens) for event in events)
