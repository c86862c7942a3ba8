"""The job worker: takeover at any point, fencing, cancellation, bounds; one end per request."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hola.bus.streams import BusLimits
from hola.errors import BusUnavailable
from hola.types import (
    Failure,
    FinishReason,
    JournalEntry,
    SamplingParams,
)
from hola_drafter.history import History
from tests.support.drafter_world import IDLE_S, JOB, World, check_one_end
from tests.support.scripted_system import (
    InProcessVerifier,
    ids_of,
    plain_tokens,
    text_of,
)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the engine's thread changes it
            await asyncio.sleep(0.001)


async def test_a_job_is_run_written_and_acknowledged(world):
    verifier = InProcessVerifier()
    world.device("a", verifier).start()
    await world.bus.jobs.publish(JOB)
    events = await world.events()
    check_one_end(events)
    assert ids_of(events) == plain_tokens(JOB.sampling)
    await world.until_empty()
    assert verifier.open_links == 0


async def test_a_takeover_at_any_entry_goes_on_where_the_dead_one_stopped(world):
    world.device("a", InProcessVerifier()).start()
    await world.bus.jobs.publish(JOB)
    whole = await world.events()
    for written in range(len(whole)):
        second = World()
        await second.bus.jobs.publish(JOB)
        dead = second.connect()
        assert await dead.jobs.take("dead", timeout_s=1) is not None
        for event in whole[:written]:
            await dead.journal.append("r1", JournalEntry(event=event, writer="dead"))
        second.now += IDLE_S
        heir = second.device("heir", InProcessVerifier())
        heir.start()
        events = await second.events()
        check_one_end(events)
        assert ids_of(events) == ids_of(whole), f"taken over after {written} entries"
        assert text_of(events) == text_of(whole), f"taken over after {written} entries"
        assert events[-1].completion_tokens == len(ids_of(whole))
        await second.until_empty()
        await heir.stop()


async def no_heartbeat(consumer, delivery):
    """As if the process had been frozen."""


async def test_a_slow_drafter_is_fenced_and_leaves_no_trace(world, monkeypatch):
    slow_verifier = InProcessVerifier(hold=asyncio.Event())
    slow_verifier.hold.set()
    slow_verifier.fail = lambda n: slow_verifier.hold.clear() if n == 4 else None
    slow = world.device("slow", slow_verifier, concurrency=1)
    monkeypatch.setattr(slow.bus.jobs, "renew", no_heartbeat)
    slow.start()
    await world.bus.jobs.publish(JOB)
    await until(lambda: slow_verifier.messages == 5)
    world.now += IDLE_S
    world.device("quick", InProcessVerifier()).start()
    events = await world.events()
    check_one_end(events)
    slow_verifier.hold.set()
    await until(lambda: slow_verifier.open_links == 0)
    assert await world.events() == events
    assert ids_of(events) == plain_tokens(JOB.sampling)
    await world.until_empty()


async def test_a_job_of_our_own_that_we_claim_goes_on(world, monkeypatch):
    verifier = InProcessVerifier(hold=asyncio.Event())
    device = world.device("a", verifier, concurrency=3)
    monkeypatch.setattr(device.bus.jobs, "renew", no_heartbeat)
    device.start()
    await world.bus.jobs.publish(JOB)
    await until(lambda: verifier.opens == 1)
    world.now += IDLE_S
    (stored,) = world.store.queue.jobs.values()
    await until(lambda: stored.attempts == 2)
    verifier.hold.set()
    assert ids_of(await world.events()) == plain_tokens(JOB.sampling)
    assert verifier.opens == 1, "the job ran twice at a time"
    await world.until_empty()


async def test_cancel_frees_the_verifier_and_the_job(world):
    verifier = InProcessVerifier()
    world.device("a", verifier).start()
    await world.bus.jobs.publish(replace(JOB, sampling=SamplingParams(max_tokens=3000)))
    await until(lambda: verifier.messages > 3)
    assert await world.bus.journal.cancel("r1")
    events = await world.events()
    check_one_end(events)
    assert events[-1].finish_reason is FinishReason.CANCELLED
    await world.until_empty()
    assert verifier.open_links == 0
    assert verifier.cancelled == ["r1"]


async def test_cancel_is_noticed_without_any_append(world):
    silent = InProcessVerifier(hold=asyncio.Event())
    world.device("a", silent, idle_s=0.02).start()
    await world.bus.jobs.publish(JOB)
    await until(lambda: silent.opens == 1)
    await world.bus.journal.cancel("r1")
    await world.until_empty()
    assert silent.cancelled == ["r1"]
    assert silent.open_links == 0


async def test_a_job_cancelled_before_it_was_taken_is_dropped(world):
    await world.bus.jobs.publish(JOB)
    await world.bus.journal.cancel("r1")
    verifier = InProcessVerifier()
    world.device("a", verifier).start()
    await world.until_empty()
    assert verifier.opens == 0


async def test_an_expired_job_ends_in_a_failure(world):
    await world.bus.jobs.publish(replace(JOB, deadline_unix_ns=1))
    verifier = InProcessVerifier()
    world.device("a", verifier).start()
    events = await world.events()
    assert [event.reason for event in events] == ["DEADLINE_EXCEEDED"]
    await world.until_empty()
    assert verifier.opens == 0


async def test_a_bad_job_ends_in_a_failure_and_the_next_one_runs(world):
    await world.bus.jobs.publish(replace(JOB, request_id="bad", model="nope"))
    await world.bus.jobs.publish(JOB)
    world.device("a", InProcessVerifier()).start()
    assert [event.reason for event in await world.events("bad")] == ["UNKNOWN_MODEL"]
    assert ids_of(await world.events()) == plain_tokens(JOB.sampling)


async def test_a_full_journal_still_gets_an_end():
    world = World(limits=BusLimits(job_idle_s=IDLE_S, journal_limit=4, block_s=0.02))
    verifier = InProcessVerifier()
    device = world.device("a", verifier)
    device.start()
    await world.bus.jobs.publish(JOB)
    events = await world.events()
    check_one_end(events)
    assert events[-1].reason == "OVERLOADED"
    await world.until_empty()
    await device.stop()
    assert verifier.open_links == 0


async def test_no_more_jobs_run_than_the_bound(world):
    verifier = InProcessVerifier(hold=asyncio.Event())
    world.device("a", verifier, concurrency=2).start()
    for n in range(5):
        await world.bus.jobs.publish(replace(JOB, request_id=f"r{n}"))
    await until(lambda: verifier.opens == 2)
    await asyncio.sleep(0.05)
    assert verifier.opens == 2
    verifier.hold.set()
    for n in range(5):
        assert ids_of(await world.events(f"r{n}")) == plain_tokens(JOB.sampling)


async def test_stopping_gives_an_unfinished_job_back(world):
    verifier = InProcessVerifier(hold=asyncio.Event())
    first = world.device("a", verifier)
    first.start(drain_s=0.01)
    await world.bus.jobs.publish(JOB)
    await until(lambda: verifier.opens == 1)
    first.worker.stop()
    verifier.hold.set()
    await first.running
    assert verifier.open_links == 0
    world.device("b", InProcessVerifier()).start()
    assert ids_of(await world.events()) == plain_tokens(JOB.sampling)


async def test_a_bus_that_goes_away_for_a_moment_costs_nothing(world, monkeypatch):
    device = world.device("a", InProcessVerifier())
    append, losses = device.bus.journal.append, iter([True, False] * 200)

    async def flaky(request_id, entry):
        """Every other write arrives, but its answer is lost."""
        await append(request_id, entry)
        if next(losses):
            raise BusUnavailable("the connection broke behind the write")

    monkeypatch.setattr(device.bus.journal, "append", flaky)
    device.start()
    await world.bus.jobs.publish(JOB)
    events = await world.events()
    check_one_end(events)
    assert ids_of(events) == plain_tokens(JOB.sampling)
    await world.until_empty()


async def test_a_bus_that_stays_away_stops_the_compute(world, monkeypatch):
    verifier = InProcessVerifier()
    device = world.device("a", verifier)

    async def gone(request_id, entry):
        raise BusUnavailable("no Redis")

    monkeypatch.setattr(device.bus.journal, "append", gone)
    device.start()
    await world.bus.jobs.publish(replace(JOB, sampling=SamplingParams(max_tokens=3000)))
    await until(lambda: verifier.opens == 1)
    await until(lambda: verifier.open_links == 0)
    assert world.store.queue.jobs, "the job must stay for another drafter"


async def test_heartbeats_keep_a_long_job():
    world = World(limits=BusLimits(job_idle_s=0.2, block_s=0.02))
    verifier = InProcessVerifier(hold=asyncio.Event())
    device = world.device("a", verifier, idle_s=0.02)
    device.start()
    await world.bus.jobs.publish(JOB)
    await until(lambda: verifier.opens == 1)
    stored = next(iter(world.store.queue.jobs.values()))
    for _ in range(3):
        world.now += 0.15
        await until(lambda: stored.delivered_at == world.now)
    assert stored.attempts == 1
    verifier.hold.set()
    assert ids_of(await world.events()) == plain_tokens(JOB.sampling)
    await device.stop()


def test_history_reads_what_was_committed():
    assert History.of([]) == History()
    failed = JournalEntry(event=Failure(reason="X", message="x", grpc_code=13))
    assert History.of([failed]).ended
