"""Redis restarts in mid-stream: nothing is lost with an append-only file, all is told without."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from hola.bus.ports import Bus
from hola.bus.redis import RedisBus
from hola.convert import encode_job
from hola.errors import BusUnavailable, Fenced, HolaError, UnknownRequest
from hola.types import JournalEntry
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
    until,
)
from tests.support.redis import Server, durable

pytestmark = pytest.mark.redis

REQUESTS = 24
LENGTH = 12
TENANTS = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own that loses nothing it has acknowledged."""
    made = Server(tmp_path / "redis", durable()).start()
    yield made
    made.stop()


def url(server: Server) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


async def drafter(bus: Bus, name: str) -> None:
    """Takes jobs and does them, from where their journals end, until it is cancelled."""
    while True:
        delivery = await bus.jobs.take(name, timeout_s=PATIENCE_S)
        if delivery is None:
            continue
        request = delivery.job.request_id
        try:
            entries = await bus.journal.read(request)
            if not entries:
                await bus.journal.append(request, by(name, started(request)))
            for position in range(len(token_ids(entries)), LENGTH):
                await bus.journal.append(request, by(name, tokens(position)))
            if not (entries and entries[-1].event == summary(LENGTH)):
                await bus.journal.append(request, by(name, summary(LENGTH)))
        except Fenced:
            continue
        await bus.jobs.ack(delivery)


async def restart_at_random(server: Server, dice: random.Random, *, gently: bool) -> None:
    """Three restarts, at moments that the dice name."""
    for _ in range(3):
        await asyncio.sleep(dice.uniform(0.05, 0.3))
        await asyncio.to_thread(server.stop, gently=gently)
        await asyncio.sleep(dice.uniform(0.0, 0.2))
        await asyncio.to_thread(server.start)


@pytest.mark.parametrize("gently", [True, False], ids=["SIGTERM", "SIGKILL"])
async def test_nothing_acknowledged_is_lost_and_nothing_is_done_twice(
    server: Server, gently: bool
) -> None:
    patience = {"retry_s": 3 * PATIENCE_S, "reconnect_s": 3 * PATIENCE_S, "block_s": 0.5}
    backend, dice = RedisBackend(url(server)), random.Random(11)
    router, *drafters = (backend.bus(**patience, job_idle_s=2 * PATIENCE_S) for _ in range(4))
    working = [asyncio.create_task(drafter(bus, f"d{i}")) for i, bus in enumerate(drafters)]
    restarting = asyncio.create_task(restart_at_random(server, dice, gently=gently))
    following = []
    for number in range(REQUESTS):
        await router.jobs.publish(job(f"r{number}", f"t{number % TENANTS}"))
        following.append(asyncio.create_task(followed_to_the_end(router, f"r{number}")))
        await asyncio.sleep(0.02)
    async with asyncio.timeout(6 * PATIENCE_S):
        streams = await asyncio.gather(*following)
        await restarting
    for entries in streams:
        assert token_ids(entries) == list(range(LENGTH))
        assert [entry.event for entry in entries].count(summary(LENGTH)) == 1
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    assert await router.jobs.dead_letters() == []
    await backend.close()


async def followed_to_the_end(bus: Bus, name: str) -> list[JournalEntry]:
    return [entry async for entry in bus.journal.follow(name)]


async def test_a_restart_that_lost_everything_is_told_and_nobody_hangs(tmp_path: Path) -> None:
    forgetful = Server(tmp_path / "redis", ["--save", "", "--appendonly", "no"]).start()
    limits = {"retry_s": PATIENCE_S, "reconnect_s": PATIENCE_S, "block_s": 0.2}
    backend = RedisBackend(url(forgetful))
    router, worker = backend.bus(**limits), backend.bus(**limits)
    await router.jobs.publish(job())
    delivery = await worker.jobs.take("a", timeout_s=1)
    assert delivery is not None
    following = asyncio.create_task(followed(router))
    await worker.journal.append("r1", by("a", started()))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(forgetful.stop)
    await asyncio.to_thread(forgetful.start)
    async with asyncio.timeout(2 * PATIENCE_S):
        with pytest.raises((UnknownRequest, BusUnavailable)):
            await following
        with pytest.raises((UnknownRequest, Fenced)):
            await worker.journal.append("r1", by("a", tokens(0)))
        with pytest.raises(Fenced):
            await worker.jobs.renew("a", delivery)
        with pytest.raises(UnknownRequest):
            await router.journal.cancel("r1")
        with pytest.raises(UnknownRequest):
            await router.journal.owner("r1")
        await worker.jobs.release("a", delivery)
        await worker.jobs.ack(delivery)
        assert await router.journal.has_ended("r1")
        assert await router.jobs.depth() == 0
        await router.jobs.publish(job())
        again = await worker.jobs.take("a", timeout_s=1)
    assert again is not None
    await backend.close()
    forgetful.stop()


# Publication in two steps


@pytest.fixture
async def backend(redis_url: str) -> RedisBackend:
    return RedisBackend(redis_url)


async def create_only(bus: RedisBus, name: str) -> None:
    """What a router leaves behind that died between the two steps."""
    published = job(name, "acme")
    await bus.journal.create(published, encode_job(published), "its-nonce", is_replay=False)


async def test_a_publication_that_broke_off_is_completed_by_the_next_one(
    backend: RedisBackend,
) -> None:
    dead, alive = backend.bus(), backend.bus()
    await create_only(dead, "r1")
    assert await alive.jobs.depth() == 0
    for _ in range(2):
        with pytest.raises(HolaError) as caught:
            await alive.jobs.publish(job("r1", "rival"))
        assert caught.value.reason == "DUPLICATE_REQUEST"
    delivery = await alive.jobs.take("a", timeout_s=1)
    assert delivery is not None
    assert delivery.job == job("r1", "acme"), "the job that was published, not the second one"
    assert await alive.jobs.depth() == 1
    await alive.journal.append("r1", by("a", started()))
    await alive.jobs.ack(delivery)
    with pytest.raises(HolaError):
        await alive.jobs.publish(job("r1"))
    assert await alive.jobs.depth() == 0, "what has begun is not queued again"
    await backend.close()


async def test_a_publication_that_broke_off_expires(backend: RedisBackend) -> None:
    bus = backend.bus(running_ttl_s=0.2)
    await create_only(bus, "r1")
    await asyncio.sleep(0.4)
    await bus.jobs.publish(job("r1"))
    assert await bus.jobs.depth() == 1
    await backend.close()


async def test_a_cancelled_publication_leaves_nothing_behind(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, reached = backend.bus(), asyncio.Event()

    async def hang(*_: object) -> bytes:
        reached.set()
        await asyncio.sleep(3600)
        return b"OK"

    monkeypatch.setattr(bus.jobs._queue, "_enqueue", hang)
    publishing = asyncio.create_task(bus.jobs.publish(job()))
    await reached.wait()
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    monkeypatch.undo()
    with pytest.raises(UnknownRequest):
        await bus.journal.owner("r1")
    await bus.jobs.publish(job())
    await backend.close()


# Foreign entries


async def test_foreign_entries_disturb_nobody(backend: RedisBackend) -> None:
    bus, keys, client = backend.bus(), backend.keys, backend.client
    await client.xadd(keys.queue("default"), {"other": b"field"})
    await client.zadd(keys.tenants, {"default": 0, "no such queue": 1, "odd\xff": 2})
    await client.hset(keys.queued, mapping={"r1": "garbage", "r2": "default/garbage"})  # type: ignore[misc]
    await client.rpush(keys.ready, "x", "y")  # type: ignore[misc]
    await client.xadd(keys.dead_letters, {"foreign": b"entry"})
    for name in ("r1", "r2"):
        await bus.jobs.publish(job(name))
    names = []
    for _ in range(2):
        delivery = await bus.jobs.take("a", timeout_s=1)
        assert delivery is not None
        names.append(delivery.job.request_id)
        await bus.jobs.ack(delivery)
    assert names == ["r1", "r2"]
    letters = await bus.jobs.dead_letters()
    assert [letter.reason[:18] for letter in letters] == ["PROTOCOL_VIOLATION", ""]
    assert await bus.jobs.take("a", timeout_s=0) is None
    assert await backend.tenants() == set()
    await backend.close()


async def test_an_idle_drafter_costs_no_commands(backend: RedisBackend) -> None:
    bus = backend.bus(block_s=PATIENCE_S, job_idle_s=4 * PATIENCE_S)
    waiting = asyncio.create_task(bus.jobs.take("idle", timeout_s=PATIENCE_S))

    async def scripts_run() -> int:
        found = await backend.client.info("commandstats")
        return sum(each["calls"] for name, each in found.items() if "eval" in name)

    async def is_blocked() -> bool:
        clients = await backend.client.client_list()
        takes = [each for each in clients if each["name"] == f"{backend.prefix}-take"]
        return any("b" in each["flags"] for each in takes)

    await until(is_blocked)
    before = await scripts_run()
    await asyncio.sleep(0.3)
    assert await scripts_run() == before
    await bus.jobs.publish(job())
    async with asyncio.timeout(PATIENCE_S / 2):
        assert await waiting is not None
    await backend.close()
