"""Compression jobs on each backend: one worker at a time, fenced, claimed, cancelled, bounded."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from hola.compression.job import JobState, Release
from hola.compression.plan import Calibration, Plan, Quantize
from hola.convert.compression import decode_compression
from hola.errors import (
    DuplicateRequest,
    Fenced,
    HolaError,
    InvalidRequest,
    Overloaded,
    QuotaExceeded,
    UnknownRequest,
)
from hola.v1 import events_pb2
from tests.support.compression import ARTIFACT, compression_job, queued

IDLE_S = 0.3
WAIT_S = 0.05


async def submitted(bus, job_id="j1", **changes):
    job = compression_job(job_id, **changes)
    await bus.compression.submit(job, queued(job_id))
    return job


async def taken(bus, worker="a"):
    delivery = await bus.compression.take(worker, timeout_s=5)
    assert delivery is not None
    return delivery


async def test_a_job_travels_whole(backend):
    bus = backend.bus()
    plan = Plan(
        bits_per_weight=4.5,
        seed=7,
        calibration=Calibration(tokens=1024),
        quantize=Quantize(bits=(2, 4), asymmetric=False),
    )
    sent = await submitted(bus, plan=plan, calibration=b"a \xc3\xa4 text", tenant="acme")
    delivery = await taken(backend.bus())
    assert delivery.job == sent
    assert (delivery.attempts, delivery.status.state) == (1, JobState.RUNNING)
    assert delivery.status.worker == "a"


async def test_a_job_goes_to_one_worker_and_ends_there(backend):
    bus, other = backend.bus(), backend.bus()
    await submitted(bus)
    delivery = await taken(bus)
    assert await other.compression.take("b", timeout_s=WAIT_S) is None
    half = replace(delivery.status, stage="quantize", progress=0.5, eta_s=12.5)
    await bus.compression.report("a", delivery, half)
    assert await other.compression.status("default", "j1") == half
    end = half.done(ARTIFACT)
    await bus.compression.finish("a", delivery, end)
    assert await other.compression.status("default", "j1") == end
    assert await bus.compression.depth() == 0
    assert await other.compression.take("b", timeout_s=WAIT_S) is None


async def test_a_silent_workers_job_goes_to_another_and_the_first_is_fenced(backend):
    first, second = backend.bus(job_idle_s=IDLE_S), backend.bus(job_idle_s=IDLE_S)
    await submitted(first)
    lost = await taken(first, "a")
    await first.compression.report("a", lost, replace(lost.status, progress=0.25))
    await backend.pass_time(IDLE_S * 1.5)
    got = await taken(second, "b")
    assert (got.attempts, got.status.progress, got.status.worker) == (2, 0.25, "b")
    late = replace(lost.status, progress=0.9)
    with pytest.raises(Fenced):
        await first.compression.report("a", lost, late)
    with pytest.raises(Fenced):
        await first.compression.finish("a", lost, late.done(ARTIFACT))
    await first.compression.release("a", lost, late.waiting())
    await second.compression.finish("b", got, got.status.done(ARTIFACT))
    status = await first.compression.status("default", "j1")
    assert (status.state, status.worker) == (JobState.DONE, "b")


async def test_reports_are_heartbeats(backend):
    bus, other = backend.bus(job_idle_s=IDLE_S), backend.bus(job_idle_s=IDLE_S)
    await submitted(bus)
    delivery = await taken(bus)
    for _ in range(4):
        await backend.pass_time(IDLE_S / 2)
        await bus.compression.report("a", delivery, delivery.status)
    assert await other.compression.take("b", timeout_s=0.01) is None


async def test_a_released_job_is_taken_at_once_and_not_counted(backend):
    bus = backend.bus()
    await submitted(bus)
    delivery = await taken(bus)
    await bus.compression.release("a", delivery, delivery.status.waiting())
    assert (await taken(bus, "b")).attempts == 1


async def test_a_released_job_waits_and_is_nobodys(backend):
    bus, other = backend.bus(), backend.bus()
    await submitted(bus)
    delivery = await taken(bus)
    half = replace(delivery.status, stage="quantize", progress=0.5, eta_s=12.5, message="layer 3")
    await bus.compression.report("a", delivery, half)
    await bus.compression.release("a", delivery, half.waiting())
    status = await other.compression.status("default", "j1")
    assert (status.state, status.worker, status.eta_s) == (JobState.QUEUED, "", None)
    assert (status.stage, status.progress, status.attempts) == ("quantize", 0.5, 0)
    again = await taken(other, "b")
    assert (again.status.state, again.status.worker) == (JobState.RUNNING, "b")


async def test_who_lost_a_job_cannot_release_it(backend):
    bus, other = backend.bus(), backend.bus()
    await submitted(bus)
    delivery = await taken(bus)
    assert await other.compression.cancel("default", "j1")
    await bus.compression.release("a", delivery, delivery.status.waiting())
    assert (await bus.compression.status("default", "j1")).state is JobState.CANCELLED
    assert await other.compression.take("b", timeout_s=WAIT_S) is None


async def test_cancel_ends_a_waiting_job(backend):
    bus = backend.bus()
    await submitted(bus)
    assert await bus.compression.cancel("default", "j1")
    assert (await bus.compression.status("default", "j1")).state is JobState.CANCELLED
    assert await bus.compression.depth() == 0
    assert await bus.compression.take("a", timeout_s=WAIT_S) is None
    assert not await bus.compression.cancel("default", "j1")


async def test_cancel_fences_the_worker(backend):
    bus, other = backend.bus(), backend.bus()
    await submitted(bus)
    delivery = await taken(bus)
    assert await other.compression.cancel("default", "j1")
    with pytest.raises(Fenced):
        await bus.compression.report("a", delivery, delivery.status)
    with pytest.raises(Fenced):
        await bus.compression.finish("a", delivery, delivery.status.done(ARTIFACT))
    assert (await bus.compression.status("default", "j1")).state is JobState.CANCELLED


async def test_an_ended_job_cannot_be_cancelled_or_ended_otherwise(backend):
    bus = backend.bus()
    await submitted(bus)
    delivery = await taken(bus)
    failed = delivery.status.failed(HolaError("no", needed_bytes=3))
    await bus.compression.finish("a", delivery, failed)
    assert not await bus.compression.cancel("default", "j1")
    with pytest.raises(Fenced):
        await bus.compression.report("a", delivery, delivery.status)
    assert await bus.compression.status("default", "j1") == failed


async def test_an_id_is_taken_once_per_tenant_also_after_the_end(backend):
    bus = backend.bus()
    await submitted(bus)
    with pytest.raises(DuplicateRequest):
        await submitted(bus)
    await submitted(bus, tenant="acme")
    await bus.compression.cancel("default", "j1")
    with pytest.raises(DuplicateRequest):
        await submitted(bus)
    assert (await bus.compression.status("acme", "j1")).state is JobState.QUEUED


async def test_nobody_finds_what_is_not_there(backend):
    bus = backend.bus()
    await submitted(bus, tenant="acme")
    with pytest.raises(UnknownRequest):
        await bus.compression.status("default", "j1")
    with pytest.raises(UnknownRequest):
        await bus.compression.cancel("default", "j1")


async def test_limits_of_the_queue_and_of_a_tenant(backend):
    bus = backend.bus(compression_limit=3, tenant_compression_limit=2)
    await submitted(bus, "j1", tenant="a")
    await submitted(bus, "j2", tenant="a")
    with pytest.raises(QuotaExceeded):
        await submitted(bus, "j3", tenant="a")
    await submitted(bus, "j3", tenant="b")
    with pytest.raises(Overloaded):
        await submitted(bus, "j4", tenant="c")
    with pytest.raises(UnknownRequest):
        await bus.compression.status("c", "j4")


async def test_bad_jobs_are_refused(backend):
    bus = backend.bus()
    for wrong in (
        {"tenant": "no/slash"},
        {"tenant": "x" * 65},
        {"calibration": b"\xff\xfe"},
        {"calibration": b"x" * (3 * 2**20 + 1)},
    ):
        with pytest.raises(InvalidRequest):
            await submitted(bus, **wrong)
    with pytest.raises(InvalidRequest):
        await submitted(bus, "no spaces")


async def test_a_job_that_ends_every_worker_is_given_up(backend):
    bus = backend.bus(job_idle_s=IDLE_S, max_attempts=2)
    sent = await submitted(bus, calibration=b"a secret text")
    for worker in ("a", "b"):
        assert (await taken(bus, worker)).job.job_id == "j1"
        await backend.pass_time(IDLE_S * 1.5)
    assert await bus.compression.take("c", timeout_s=WAIT_S) is None
    status = await bus.compression.status("default", "j1")
    assert status.state is JobState.FAILED
    assert status.failure is not None
    assert "2 workers" in status.failure.message
    assert await bus.compression.depth() == 0
    letters = await backend.compression_letters()
    assert [decode_compression(each) for each in letters] == [replace(sent, calibration=b"")]


async def test_a_payload_of_a_later_version_waits_for_a_newer_worker(backend):
    bus = backend.bus(job_idle_s=IDLE_S, max_attempts=2)
    payload = events_pb2.CompressionEvent(version=99, job_id="j1").SerializeToString()
    await backend.add_compression(payload)
    assert await bus.compression.take("a", timeout_s=WAIT_S) is None
    assert await bus.compression.depth() == 1


@pytest.mark.parametrize("payload", [b"", b"\xff\xff\xff", b"\x08\x01\x12\x02j1\x32\x01{"])
async def test_garbage_does_not_stop_the_queue(backend, payload):
    bus = backend.bus()
    await backend.add_compression(payload)
    await submitted(bus, "good")
    assert (await taken(bus)).job.job_id == "good"


async def test_a_release_reaches_every_follower(backend):
    here, there = backend.bus(block_s=0.2), backend.bus(block_s=0.2)
    release = Release(model="demo", tier="target", digest="ab" * 32)
    heard: asyncio.Queue[Release] = asyncio.Queue()

    async def listen():
        async for each in there.releases.follow():
            heard.put_nowait(each)

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(20):
        while heard.empty():
            await here.releases.announce(release)
            await asyncio.sleep(0.01)
    assert heard.get_nowait() == release
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
