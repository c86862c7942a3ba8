"""DrafterPort, called directly and over gRPC: the same events, refusals and clean-up."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

import hola_drafter.app
import hola_verifier.app
from hola.bus.memory import MemoryBus
from hola.errors import HolaError
from hola.rpc.drafter_client import GrpcDrafter
from hola.types import (
    FinishReason,
    GenerateJob,
    SamplingParams,
    SpeculationParams,
    Started,
    Summary,
    Tokens,
)
from tests.support.scripted_system import ids_of, text_of
from tests.support.system import MODEL, PROMPT, collect, settings_for, terminal, watched_target
from tests.support.verifier import WatchedEngine, eventually, reference

PORTS = ("direct", "grpc")


@asynccontextmanager
async def running_drafter(kind, folder, **changes):
    """A drafter in front of a verifier in this process; (port, the target's engine)."""
    engine = WatchedEngine(seed=7, eos_bias=-1000.0)
    settings = settings_for(folder, "memory:", listen=f"unix://{folder}/drafter.sock", **changes)
    verifier = hola_verifier.app.build(settings, target=watched_target(engine))
    await verifier.open()
    app = hola_drafter.app.build(settings, bus=MemoryBus(), verifier=verifier.port)
    try:
        if kind == "direct":
            await app.open()
            yield app.drafter, engine
        else:
            await app.start()
            client = GrpcDrafter(app.address, settings)
            yield client, engine
            await client.close()
    finally:
        engine.release()
        await app.stop()
        await verifier.close()


@pytest.fixture(params=PORTS)
async def rig(request, tmp_path):
    async with running_drafter(request.param, tmp_path) as running:
        yield running


def job(**changes):
    wanted = GenerateJob(
        request_id="r1",
        model=MODEL,
        prompt=PROMPT,
        sampling=SamplingParams(max_tokens=40, temperature=0.7, seed=11),
        speculation=SpeculationParams(max_draft_tokens=4),
    )
    return replace(wanted, **changes)


async def refusal(port, wanted):
    """The error a job ends with: its only event, or what the call raises."""
    events = []
    try:
        events = await collect(port.generate(wanted))
    except HolaError as error:
        return error.reason
    assert len(events) == 1, events
    return events[0].reason


async def test_started_tokens_summary(rig):
    port, engine = rig
    events = await collect(port.generate(job()))
    started, summary = events[0], terminal(events)
    assert isinstance(started, Started)
    assert isinstance(summary, Summary)
    assert started.tiers == ("lookup", "tiny", "small", "scripted")
    assert started.prompt_tokens == summary.prompt_tokens == len(PROMPT)
    assert ids_of(events) == reference(engine, 40, job().sampling, tuple(PROMPT.encode()))
    assert summary.completion_tokens == 40
    times = summary.timings
    parts = (
        times.queue_ns + times.prefill_ns + times.draft_ns + times.verify_ns
        + times.verify_queue_ns + times.network_ns + times.other_ns
    )  # fmt: skip
    assert parts == times.total_ns > 0


async def test_token_ids_are_taken_as_the_prompt(rig):
    port, _ = rig
    by_text = await collect(port.generate(job()))
    ids = tuple(PROMPT.encode())
    by_ids = await collect(port.generate(job(prompt="", prompt_token_ids=ids)))
    assert text_of(by_ids) == text_of(by_text)


async def test_a_request_without_id_gets_one(rig):
    port, _ = rig
    events = await collect(port.generate(job(request_id="")))
    assert events[0].request_id


async def test_a_stop_string_ends_the_text_before_it(rig):
    port, engine = rig
    ids = reference(engine, 40, job().sampling, tuple(PROMPT.encode()))
    letters = [at for at in range(1, 40) if 33 <= ids[at] < 127 and 33 <= ids[at - 1] < 127]
    stop = bytes(ids[letters[0] - 1 : letters[0] + 1]).decode()
    sampling = replace(job().sampling, stop=(stop,))
    events = await collect(port.generate(job(sampling=sampling)))
    assert terminal(events).finish_reason is FinishReason.STOP_STRING
    assert stop not in text_of(events)
    assert ids_of(events) == ids[: letters[0] + 1]


BAD_JOBS = {
    "unknown model": (job(model="nope"), "UNKNOWN_MODEL"),
    "no prompt": (job(prompt=""), "EMPTY_PROMPT"),
    "no prompt ids": (job(prompt="", prompt_token_ids=()), "EMPTY_PROMPT"),
    "prompt too long": (job(prompt="x" * 5000), "PROMPT_TOO_LONG"),
    "stray prompt id": (job(prompt="", prompt_token_ids=(1, 99_999)), "INVALID_REQUEST"),
    "unknown tier": (job(speculation=SpeculationParams(ladder=("huge",))), "INVALID_REQUEST"),
    "nan": (job(sampling=SamplingParams(temperature=math.nan)), "INVALID_SAMPLING"),
    "infinite": (job(sampling=SamplingParams(temperature=math.inf)), "INVALID_SAMPLING"),
    "negative": (job(sampling=SamplingParams(temperature=-1.0)), "INVALID_SAMPLING"),
    "top_p": (job(sampling=SamplingParams(top_p=1.5)), "INVALID_SAMPLING"),
    "min_p": (job(sampling=SamplingParams(min_p=-0.1)), "INVALID_SAMPLING"),
    "seed": (job(sampling=SamplingParams(seed=2**63)), "INVALID_SAMPLING"),
    "stop id": (job(sampling=SamplingParams(stop_token_ids=(99_999,))), "INVALID_SAMPLING"),
    "empty stop": (job(sampling=SamplingParams(stop=("",))), "INVALID_SAMPLING"),
    "block": (job(speculation=SpeculationParams(max_draft_tokens=65)), "INVALID_REQUEST"),
    "threshold": (
        job(speculation=SpeculationParams(entropy_threshold=math.nan)),
        "INVALID_REQUEST",
    ),
    "request id": (job(request_id="a b"), "INVALID_REQUEST"),
    "late": (job(deadline_unix_ns=1), "DEADLINE_EXCEEDED"),
}


@pytest.mark.parametrize("name", BAD_JOBS)
async def test_a_bad_job_is_refused_and_the_drafter_serves_on(rig, name):
    port, engine = rig
    wanted, reason = BAD_JOBS[name]
    assert await refusal(port, wanted) == reason
    assert isinstance(terminal(await collect(port.generate(job()))), Summary)
    await eventually(lambda: engine.opened_sessions == engine.closed_sessions, "no session is left")


async def test_closing_the_stream_stops_the_compute(rig):
    port, engine = rig
    wanted = job(sampling=SamplingParams(max_tokens=3000))
    async with aclosing(port.generate(wanted)) as events:
        async for event in events:
            if isinstance(event, Tokens):
                break
    await eventually(
        lambda: engine.opened_sessions == engine.closed_sessions == 1, "the session was freed"
    )
    passes = len(engine.passes)
    await asyncio.sleep(0.05)
    assert len(engine.passes) == passes, "the target went on computing"


async def test_the_deadline_ends_the_request(rig):
    port, engine = rig
    engine.hold()
    wanted = job(deadline_unix_ns=time.time_ns() + 200_000_000)
    assert await refusal(port, wanted) == "DEADLINE_EXCEEDED"


async def test_requests_at_once_do_not_mix(rig):
    port, engine = rig
    wanted = [
        job(request_id=f"r{n}", sampling=SamplingParams(max_tokens=30, temperature=1.0, seed=n))
        for n in range(8)
    ]
    streams = await asyncio.gather(*(collect(port.generate(each)) for each in wanted))
    for each, events in zip(wanted, streams, strict=True):
        assert ids_of(events) == reference(engine, 30, each.sampling, tuple(PROMPT.encode()))


async def test_an_id_runs_once_at_a_time(rig):
    port, engine = rig
    engine.hold()
    first = asyncio.create_task(collect(port.generate(job())))
    await engine.in_pass()
    assert await refusal(port, job()) == "DUPLICATE_REQUEST"
    engine.release()
    assert isinstance(terminal(await first), Summary)
    assert isinstance(terminal(await collect(port.generate(job()))), Summary)


@pytest.mark.parametrize("kind", PORTS)
async def test_direct_calls_are_bounded(kind, tmp_path):
    async with running_drafter(kind, tmp_path, max_sessions=1) as (port, engine):
        engine.hold()
        first = asyncio.create_task(collect(port.generate(job())))
        await engine.in_pass()
        assert await refusal(port, job(request_id="r2")) == "OVERLOADED"
        engine.release()
        assert isinstance(terminal(await first), Summary)


async def test_info_names_what_runs(rig):
    port, _ = rig
    info = await port.info()
    assert (info.model, info.tiers) == (MODEL, ("lookup", "tiny", "small"))
    assert info.verifier == "local:"
    assert info.active_requests == 0
