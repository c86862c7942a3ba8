"""Jobs: published once, run by one consumer at a time, claimed from silent ones, or given up."""

from __future__ import annotations

import asyncio

import pytest

from hola.bus.ports import Backlog
from hola.convert import encode_job, payloads
from hola.errors import DuplicateRequest, Fenced, InvalidRequest, Overloaded
from hola.types import Failure, GenerateJob
from hola.v1 import events_pb2
from tests.support.bus import PATIENCE_S, Backend, by, failure, followed, job, started, tokens

IDLE_S = 0.5
LONG_IDLE_S = 2.0  # where much happens before it must be over on a slow machine


async def test_a_job_comes_out_as_it_went_in(backend: Backend) -> None:
    bus = backend.bus()
    await bus.jobs.publish(job())
    assert await bus.jobs.depth() == 1
    delivery = await bus.jobs.take("a", timeout_s=1)
    assert delivery is not None
    assert (delivery.job, delivery.attempts) == (job(), 1)
    assert await bus.jobs.depth() == 1
    await bus.jobs.ack(delivery)
    assert await bus.jobs.depth() == 0


async def test_the_backlog_tells_waiting_taken_and_dead_jobs_of_all_tenants(
    backend: Backend,
) -> None:
    bus = backend.bus(max_attempts=1, job_idle_s=IDLE_S)
    assert await bus.jobs.backlog() == Backlog(waiting=0, taken=0, dead_letters=0)
    for request_id, tenant in (("r1", "acme"), ("r2", "acme"), ("r3", "umbrella")):
        await bus.jobs.publish(job(request_id, tenant))
    assert await bus.jobs.backlog() == Backlog(waiting=3, taken=0, dead_letters=0)
    delivery = await bus.jobs.take("a", timeout_s=1)
    assert delivery is not None
    assert await bus.jobs.backlog() == Backlog(waiting=2, taken=1, dead_letters=0)
    await bus.jobs.ack(delivery)
    assert await bus.jobs.backlog() == Backlog(waiting=2, taken=0, dead_letters=0)
    await bus.jobs.take("a", timeout_s=1)
    await backend.pass_time(IDLE_S * 1.5)
    # It went silent and has had its one attempt: it is buried on the way to the last one.
    assert await bus.jobs.take("b", timeout_s=1) is not None
    assert await bus.jobs.backlog() == Backlog(waiting=0, taken=1, dead_letters=1)


async def test_a_request_id_is_published_once_even_by_two_routers_at_once(backend: Backend) -> None:
    routers = [backend.bus() for _ in range(4)]
    answers = await asyncio.gather(
        *(router.jobs.publish(job()) for router in routers), return_exceptions=True
    )
    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, DuplicateRequest) for answer in answers) == 3
    assert await routers[0].jobs.depth() == 1


async def test_a_request_id_stays_taken_after_its_end(backend: Backend) -> None:
    bus = backend.bus()
    await bus.jobs.publish(job())
    delivery = await bus.jobs.take("a", timeout_s=1)
    assert delivery is not None
    await bus.journal.append("r1", by("a", failure()))
    await bus.jobs.ack(delivery)
    with pytest.raises(DuplicateRequest):
        await bus.jobs.publish(job())


async def test_a_full_queue_refuses_with_a_time_to_come_back(backend: Backend) -> None:
    bus = backend.bus(queue_limit=2)
    await bus.jobs.publish(job("r1"))
    await bus.jobs.publish(job("r2"))
    with pytest.raises(Overloaded) as caught:
        await bus.jobs.publish(job("r3"))
    assert int(caught.value.details["retry_after_ms"]) > 0
    delivery = await bus.jobs.take("a", timeout_s=1)
    assert delivery is not None
    await bus.jobs.ack(delivery)
    await bus.jobs.publish(job("r3"))  # the refusal has not taken its id


async def test_a_job_that_cannot_travel_is_refused_and_leaves_nothing(backend: Backend) -> None:
    bus = backend.bus()
    with pytest.raises(InvalidRequest, match="prompt"):
        await bus.jobs.publish(GenerateJob(request_id="r1", model="m", prompt="\ud800"))
    assert await bus.jobs.depth() == 0
    await bus.jobs.publish(job())


async def test_two_consumers_share_the_jobs(backend: Backend) -> None:
    first, second = backend.bus(), backend.bus()
    for number in range(6):
        await first.jobs.publish(job(f"r{number}"))
    taken = []
    for _ in range(3):
        for bus, name in ((first, "a"), (second, "b")):
            delivery = await bus.jobs.take(name, timeout_s=1)
            assert delivery is not None
            taken.append(delivery.job.request_id)
    assert taken == [f"r{number}" for number in range(6)]
    assert await first.jobs.take("a", timeout_s=0) is None


async def test_a_waiting_consumer_gets_a_job_as_it_is_published(backend: Backend) -> None:
    bus = backend.bus()
    waiting = asyncio.create_task(bus.jobs.take("a", timeout_s=PATIENCE_S))
    await asyncio.sleep(0)
    await bus.jobs.publish(job())
    async with asyncio.timeout(PATIENCE_S / 2):
        delivery = await waiting
    assert delivery is not None
    assert delivery.job == job()


async def test_waiting_for_a_job_ends(backend: Backend) -> None:
    bus = backend.bus()
    async with asyncio.timeout(PATIENCE_S):
        assert await bus.jobs.take("a", timeout_s=0.05) is None


async def test_a_silent_consumers_job_goes_to_another(backend: Backend) -> None:
    dead, alive = backend.bus(job_idle_s=IDLE_S), backend.bus(job_idle_s=IDLE_S)
    await dead.jobs.publish(job())
    assert await dead.jobs.take("dead", timeout_s=1) is not None
    assert await alive.jobs.take("alive", timeout_s=0) is None
    await backend.pass_time(IDLE_S + 0.05)
    claimed = await alive.jobs.take("alive", timeout_s=0)
    assert claimed is not None
    assert (claimed.job, claimed.attempts) == (job(), 2)


async def test_stale_jobs_come_before_new_ones_and_behind_many_running(backend: Backend) -> None:
    bus = backend.bus(job_idle_s=LONG_IDLE_S)
    for number in range(12):
        await bus.jobs.publish(job(f"r{number}"))
    running = [await bus.jobs.take("a", timeout_s=0) for _ in range(12)]
    await backend.pass_time(LONG_IDLE_S + 0.05)
    for delivery in running[:11]:
        assert delivery is not None
        await bus.jobs.renew("a", delivery)
    await bus.jobs.publish(job("new"))
    claimed = await bus.jobs.take("b", timeout_s=0)
    assert claimed is not None
    assert claimed.job.request_id == "r11"
    fresh = await bus.jobs.take("b", timeout_s=0)
    assert fresh is not None
    assert fresh.job.request_id == "new"


async def test_a_heartbeat_keeps_the_job(backend: Backend) -> None:
    owner, other = backend.bus(job_idle_s=LONG_IDLE_S), backend.bus(job_idle_s=LONG_IDLE_S)
    await owner.jobs.publish(job())
    delivery = await owner.jobs.take("owner", timeout_s=1)
    assert delivery is not None
    for _ in range(3):
        await backend.pass_time(LONG_IDLE_S * 0.6)
        await owner.jobs.renew("owner", delivery)
        assert await other.jobs.take("other", timeout_s=0) is None
    await backend.pass_time(LONG_IDLE_S + 0.05)
    claimed = await other.jobs.take("other", timeout_s=0)
    assert claimed is not None
    assert claimed.attempts == 2  # a heartbeat is no delivery


async def test_a_consumer_that_is_already_waiting_gets_a_job_that_goes_stale(
    backend: Backend,
) -> None:
    bus = backend.bus(job_idle_s=IDLE_S, block_s=PATIENCE_S)
    await bus.jobs.publish(job())
    assert await bus.jobs.take("dead", timeout_s=1) is not None
    waiting = asyncio.create_task(bus.jobs.take("alive", timeout_s=PATIENCE_S))
    await asyncio.sleep(0)
    await backend.pass_time(IDLE_S + 0.05)
    async with asyncio.timeout(PATIENCE_S / 2):
        claimed = await waiting
    assert claimed is not None
    assert claimed.attempts == 2


async def test_the_heartbeat_of_a_job_that_went_to_another_is_fenced(backend: Backend) -> None:
    bus = backend.bus(job_idle_s=IDLE_S)
    await bus.jobs.publish(job())
    delivery = await bus.jobs.take("slow", timeout_s=1)
    assert delivery is not None
    await backend.pass_time(IDLE_S + 0.05)
    claimed = await bus.jobs.take("quick", timeout_s=0)
    assert claimed is not None
    with pytest.raises(Fenced):
        await bus.jobs.renew("slow", delivery)
    await bus.jobs.renew("quick", claimed)
    await bus.jobs.ack(claimed)
    with pytest.raises(Fenced):
        await bus.jobs.renew("quick", claimed)


async def test_acknowledging_twice_is_once(backend: Backend) -> None:
    bus = backend.bus(job_idle_s=IDLE_S)
    await bus.jobs.publish(job("r1"))
    await bus.jobs.publish(job("r2"))
    delivery = await bus.jobs.take("a", timeout_s=1)
    assert delivery is not None
    await bus.jobs.ack(delivery)
    await bus.jobs.ack(delivery)
    assert await bus.jobs.depth() == 1
    await backend.pass_time(IDLE_S + 0.05)
    after = await bus.jobs.take("a", timeout_s=0)
    assert after is not None
    assert after.job.request_id == "r2"


async def test_a_job_that_nobody_finishes_is_given_up(backend: Backend) -> None:
    bus = backend.bus(job_idle_s=IDLE_S, max_attempts=2)
    await bus.jobs.publish(job())
    await bus.jobs.take("a", timeout_s=1)
    await bus.journal.append("r1", by("a", started()))
    await bus.journal.append("r1", by("a", tokens(0, 2)))
    await backend.pass_time(IDLE_S + 0.05)
    again = await bus.jobs.take("b", timeout_s=0)
    assert again is not None
    assert again.attempts == 2
    await backend.pass_time(IDLE_S + 0.05)
    assert await bus.jobs.take("c", timeout_s=0) is None
    assert await bus.jobs.depth() == 0
    last = (await followed(bus))[-1].event
    assert isinstance(last, Failure)
    assert last.details == {"deliveries": "2"}
    [(payload, reason)] = await backend.dead_letters()
    assert payload == encode_job(job())
    assert "given up" in reason
    with pytest.raises(Fenced):
        await bus.journal.append("r1", by("b", tokens(2)))


async def test_garbage_among_the_jobs_stops_nobody(backend: Backend) -> None:
    bus = backend.bus()
    await backend.add_job(b"\xff\xff\xff")
    await backend.add_job(b"")
    await bus.jobs.publish(job("r1"))
    delivery = await bus.jobs.take("a", timeout_s=1)
    assert delivery is not None
    assert delivery.job == job("r1")
    assert await bus.jobs.depth() == 1
    assert [payload for payload, _ in await backend.dead_letters()] == [b"\xff\xff\xff", b""]


async def test_a_payload_of_a_later_version_waits_for_a_newer_drafter_and_is_given_up_in_the_end(
    backend: Backend,
) -> None:
    bus = backend.bus(job_idle_s=IDLE_S, max_attempts=2)
    await bus.jobs.publish(job("r1"))
    own = await bus.jobs.take("a", timeout_s=1)
    assert own is not None
    await bus.jobs.ack(own)
    later = events_pb2.JobEnvelope.FromString(encode_job(job("r1")))
    later.version = 99
    await backend.add_job(later.SerializeToString())
    assert await bus.jobs.take("a", timeout_s=0) is None
    assert await backend.dead_letters() == []
    await backend.pass_time(IDLE_S + 0.05)
    assert await bus.jobs.take("b", timeout_s=0) is None
    [(_, reason)] = await backend.dead_letters()
    assert "version: 99" in reason
    last = (await followed(bus, "r1"))[-1].event
    assert isinstance(last, Failure)
    assert last.reason == "PROTOCOL_VIOLATION"


async def test_a_newer_routers_job_with_fields_unknown_here_is_taken(backend: Backend) -> None:
    bus = backend.bus()
    newer = events_pb2.JobEnvelope.FromString(encode_job(job("r1")) + b"\xfa\x7f\x03new")
    newer.version = payloads.READER_VERSION
    await backend.add_job(newer.SerializeToString())
    delivery = await bus.jobs.take("a", timeout_s=1)
    assert delivery is not None
    assert delivery.job == job("r1")


async def test_old_and_new_drafters_share_a_queue_during_a_rollout(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = backend.bus(job_idle_s=IDLE_S)
    await bus.jobs.publish(job("r1"))
    delivery = await bus.jobs.take("old", timeout_s=1)
    assert delivery is not None
    await bus.jobs.ack(delivery)
    newer = events_pb2.JobEnvelope.FromString(encode_job(job("r1")))
    newer.version = payloads.READER_VERSION
    await backend.add_job(newer.SerializeToString())
    with monkeypatch.context() as patch:
        patch.setattr(payloads, "READER_VERSION", payloads.READER_VERSION - 1)
        assert await bus.jobs.take("old", timeout_s=0) is None
    await backend.pass_time(IDLE_S + 0.05)
    taken = await bus.jobs.take("new", timeout_s=1)
    assert taken is not None
    assert (taken.job, taken.attempts) == (job("r1"), 2)
    assert await backend.dead_letters() == []
    assert not await bus.journal.has_ended("r1")


async def test_dead_letters_are_bounded(backend: Backend) -> None:
    bus = backend.bus(dead_letter_limit=100)
    for _ in range(300):
        await backend.add_job(b"\xff")
    assert await bus.jobs.take("a", timeout_s=0) is None
    # Redis trims by whole nodes of the stream, 100 entries each by default.
    assert 100 <= len(await backend.dead_letters()) <= 200


async def test_a_job_that_is_given_back_goes_to_the_next_at_once(backend: Backend) -> None:
    stopping, other = backend.bus(job_idle_s=1000), backend.bus(job_idle_s=1000)
    await stopping.jobs.publish(job())
    delivery = await stopping.jobs.take("stopping", timeout_s=1)
    assert delivery is not None
    waiting = asyncio.create_task(other.jobs.take("other", timeout_s=PATIENCE_S))
    await stopping.jobs.release("stopping", delivery)
    taken = await waiting
    assert taken is not None
    assert (taken.job, taken.attempts) == (job(), 1), "giving it back is not an attempt"
    await stopping.jobs.release("stopping", delivery)
    await other.jobs.renew("other", taken)
    assert await stopping.jobs.take("stopping", timeout_s=0.1) is None
