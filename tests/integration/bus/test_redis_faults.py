"""Redis restarts, breaks connections, loses answers and groups; nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from hola.bus import redis_queue
from hola.bus.connect import open_bus
from hola.bus.redis import RedisBus
from hola.bus.streams import GROUP, BusLimits
from hola.errors import BusUnavailable, DuplicateRequest, Fenced, Overloaded
from tests.support.bus import (
    PATIENCE_S,
    RedisBackend,
    by,
    followed,
    job,
    started,
    summary,
    token_ids,
    tokens,
)
from tests.support.proxy import LosingProxy, losing_proxy

pytestmark = pytest.mark.redis


@pytest.fixture
async def proxied(backend: RedisBackend) -> AsyncIterator[tuple[LosingProxy, RedisBus]]:
    """A bus behind a proxy that can lose answers; its scripts are loaded."""
    target = urlsplit(backend.url)
    assert target.hostname is not None
    assert target.port is not None
    async with losing_proxy(target.hostname, target.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        bus = RedisBus(url, limits=BusLimits(retry_s=PATIENCE_S), prefix=backend.prefix)
        await bus.jobs.publish(job("warm"))
        delivery = await bus.jobs.take("warm", timeout_s=1)
        assert delivery is not None
        await bus.journal.append("warm", by("a", started("warm")))
        await bus.jobs.renew("warm", delivery)
        await bus.jobs.ack(delivery)
        yield proxy, bus
        await bus.close()


async def test_a_stream_survives_a_restart_of_redis(start_redis: Callable[[], Any]) -> None:
    server = start_redis()
    backend = RedisBackend(server.url)
    router, drafter = (backend.bus(retry_s=PATIENCE_S, reconnect_s=PATIENCE_S) for _ in range(2))
    await router.jobs.publish(job())
    waiting = asyncio.create_task(router.jobs.take("idle", timeout_s=PATIENCE_S))
    delivery = await asyncio.wait_for(waiting, PATIENCE_S)
    assert delivery is not None
    following = asyncio.create_task(followed(router))
    await drafter.journal.append("r1", by("a", started()))
    await drafter.journal.append("r1", by("a", tokens(0, 2)))
    await asyncio.sleep(0.05)
    server.kill()
    writing = asyncio.create_task(drafter.journal.append("r1", by("a", tokens(2))))
    await asyncio.sleep(0.1)
    assert not writing.done()
    await asyncio.to_thread(server.start)
    await writing
    await drafter.jobs.renew("idle", delivery)
    await drafter.journal.append("r1", by("a", summary(3)))
    await drafter.jobs.ack(delivery)
    assert token_ids(await following) == [0, 1, 2]
    with pytest.raises(DuplicateRequest):
        await router.jobs.publish(job())
    assert await router.jobs.depth() == 0
    await backend.close()


async def test_broken_connections_are_made_again(backend: RedisBackend) -> None:
    bus = backend.bus()
    await bus.jobs.publish(job())
    following = asyncio.create_task(followed(bus))
    await bus.journal.append("r1", by("a", started()))
    assert await bus.jobs.take("a", timeout_s=1) is not None
    waiting = asyncio.create_task(bus.jobs.take("b", timeout_s=PATIENCE_S))
    for position in range(5):
        await asyncio.sleep(0.03)
        for client in await backend.client.client_list():
            if backend.prefix in str(client["name"]):
                await backend.client.client_kill_filter(_id=client["id"])
        await bus.journal.append("r1", by("a", tokens(position)))
    await bus.journal.append("r1", by("a", summary(5)))
    assert token_ids(await following) == list(range(5))
    await bus.jobs.publish(job("r2"))
    delivery = await waiting
    assert delivery is not None
    assert delivery.job.request_id == "r2"


async def test_a_redis_that_stays_away_is_reported_in_time_and_without_its_password() -> None:
    limits = BusLimits(retry_s=0.2, reconnect_s=0.2)
    bus = RedisBus("redis://hola:s3cret@127.0.0.1:1/0", limits=limits)
    calls = [
        bus.ping,
        lambda: bus.jobs.publish(job()),
        lambda: bus.jobs.take("a", timeout_s=0.1),
        lambda: bus.journal.append("r1", by("a", started())),
        lambda: bus.journal.cancel("r1"),
        lambda: followed(bus),
    ]
    for call in calls:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(BusUnavailable) as caught:
                await call()
        assert caught.value.details["url"] == "redis://127.0.0.1:1/0"
        assert "s3cret" not in f"{caught.value!r} {caught.value.details}"
    await bus.close()


async def test_followers_of_a_redis_that_stays_away_end(start_redis: Callable[[], Any]) -> None:
    server = start_redis()
    backend = RedisBackend(server.url)
    bus = backend.bus(reconnect_s=0.3, retry_s=0.3)
    await bus.jobs.publish(job())
    following = [asyncio.create_task(followed(bus)) for _ in range(3)]
    await bus.journal.append("r1", by("a", started()))
    await asyncio.sleep(0.05)
    server.kill()
    async with asyncio.timeout(PATIENCE_S):
        ends = await asyncio.gather(*following, return_exceptions=True)
    assert [type(end) for end in ends] == [BusUnavailable] * 3
    await backend.close()


async def test_a_wrong_password_is_not_tried_for_long(backend: RedisBackend) -> None:
    target = urlsplit(backend.url)
    url = f"redis://nobody:s3cret@127.0.0.1:{target.port}/0"
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(BusUnavailable) as caught:
            await open_bus(url, limits=BusLimits(retry_s=1000))
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize("after", [0, 1], ids=["journal", "queue"])
async def test_a_publication_whose_answer_was_lost_is_not_a_duplicate_of_itself(
    backend: RedisBackend, proxied: tuple[LosingProxy, RedisBus], after: int
) -> None:
    proxy, bus = proxied
    proxy.arm(after)
    await bus.jobs.publish(job())
    assert proxy.lost == 1
    assert await bus.jobs.depth() == 1
    with pytest.raises(DuplicateRequest):
        await bus.jobs.publish(job())
    assert await bus.jobs.depth() == 1


@pytest.mark.parametrize("after", [0, 1, 2, 3], ids=["read", "journal", "queue", "removal"])
async def test_a_replay_whose_answer_was_lost_is_one(
    backend: RedisBackend, proxied: tuple[LosingProxy, RedisBus], after: int
) -> None:
    proxy, bus = proxied
    impatient = backend.bus(job_idle_s=0.05, max_attempts=1)
    await impatient.jobs.publish(job())
    assert await impatient.jobs.take("a", timeout_s=0) is not None
    await asyncio.sleep(0.1)
    assert await impatient.jobs.take("a", timeout_s=0) is None
    [letter] = await bus.jobs.dead_letters()
    proxy.arm(after)
    assert await bus.jobs.replay(letter.id) == job()
    assert proxy.lost == 1
    assert (await bus.jobs.depth(), await bus.jobs.dead_letters()) == (1, [])


async def test_an_append_whose_answer_was_lost_does_not_fence_itself(
    proxied: tuple[LosingProxy, RedisBus],
) -> None:
    proxy, bus = proxied
    await bus.jobs.publish(job())
    for event in (started(), tokens(0, 2), tokens(2), summary(3)):
        proxy.arm()
        await bus.journal.append("r1", by("a", event))
    assert proxy.lost == 4
    entries = await bus.journal.read("r1")
    assert [entry.event for entry in entries] == [started(), tokens(0, 2), tokens(2), summary(3)]
    with pytest.raises(Fenced):
        await bus.journal.append("r1", by("a", summary(3)))


async def test_a_cancellation_whose_answer_was_lost_is_one(
    proxied: tuple[LosingProxy, RedisBus],
) -> None:
    proxy, bus = proxied
    await bus.jobs.publish(job())
    proxy.arm()
    assert await bus.journal.cancel("r1") is True
    assert len(await bus.journal.read("r1")) == 1


async def test_a_lost_group_is_made_again_and_its_jobs_are_delivered(backend: RedisBackend) -> None:
    bus = backend.bus()
    await bus.jobs.publish(job("r1"))
    running = await bus.jobs.take("a", timeout_s=1)
    assert running is not None
    await backend.client.xgroup_destroy(backend.keys.queue("default"), GROUP)
    with pytest.raises(Fenced):
        await bus.jobs.renew("a", running)
    again = await bus.jobs.take("b", timeout_s=1)
    assert again is not None
    assert again.job.request_id == "r1"
    await bus.jobs.ack(running)


async def test_a_flushed_server_is_started_from_anew(backend: RedisBackend) -> None:
    bus = backend.bus()
    await bus.jobs.publish(job("r1"))
    delivery = await bus.jobs.take("a", timeout_s=1)
    assert delivery is not None
    await backend.client.delete(backend.keys.queue("default"), backend.keys.journal("r1"))
    await bus.jobs.ack(delivery)
    await bus.jobs.publish(job("r1"))
    assert await bus.jobs.take("a", timeout_s=1) is not None


async def test_a_job_stream_of_another_type_is_refused_not_retried(backend: RedisBackend) -> None:
    await backend.client.set(backend.keys.tenants, b"no sorted set")
    bus = backend.bus(retry_s=1000)
    for call in (lambda: bus.jobs.take("a", timeout_s=1), lambda: bus.jobs.publish(job())):
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(BusUnavailable, match="refused a command: WRONGTYPE"):
                await call()


async def test_consumers_of_ended_processes_are_forgotten(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = backend.bus()
    for name, consumer in (("r1", "running"), ("r2", "gone")):
        await bus.jobs.publish(job(name))
        delivery = await bus.jobs.take(consumer, timeout_s=1)
        assert delivery is not None
    await bus.jobs.ack(delivery)

    async def known() -> set[bytes]:
        found: Any = await backend.client.xinfo_consumers(backend.keys.queue("default"), GROUP)
        return {consumer["name"] for consumer in found}

    assert await known() == {b"running", b"gone"}
    await asyncio.sleep(0.05)
    monkeypatch.setattr(redis_queue, "FORGOTTEN_CONSUMER_S", 0.02)
    await backend.bus().jobs.take("new", timeout_s=0)
    assert await known() - {b"new"} == {b"running"}


async def test_a_race_for_the_last_place_in_the_queue_has_one_winner(backend: RedisBackend) -> None:
    routers = [backend.bus(queue_limit=1) for _ in range(5)]
    answers = await asyncio.gather(
        *(router.jobs.publish(job(f"r{i}")) for i, router in enumerate(routers)),
        return_exceptions=True,
    )
    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, Overloaded) for answer in answers) == 4
