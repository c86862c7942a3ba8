"""Following on Redis: one blocking read for all, expiry, garbage, entries that went missing."""

from __future__ import annotations

import asyncio

import pytest

from hola.errors import BusUnavailable, Fenced, ProtocolViolation, UnknownRequest
from hola.types import Outcome
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
    unverified,
)

pytestmark = pytest.mark.redis


async def connections(backend: RedisBackend) -> list[str]:
    """Roles of the backend's buses' connections, one each."""
    clients = await backend.client.client_list()
    names = [str(client["name"]) for client in clients]
    return sorted(name[len(backend.prefix) + 1 :] for name in names if backend.prefix in name)


async def blocked(backend: RedisBackend) -> int:
    """The backend's connections in a blocking read."""
    clients = await backend.client.client_list()
    ours = [client for client in clients if backend.prefix in str(client["name"])]
    return sum("b" in client["flags"] for client in ours)


async def test_sixty_followers_share_one_blocking_read(backend: RedisBackend) -> None:
    bus = backend.bus()
    names = [f"r{number}" for number in range(30)]
    for name in names:
        await bus.jobs.publish(job(name))
    following = [asyncio.create_task(followed(bus, name)) for name in names for _ in range(2)]
    for name in names:
        await bus.journal.append(name, by("a", started(name)))

    async def one_read_blocks() -> bool:
        return await blocked(backend) == 1

    await until(one_read_blocks)
    roles = await connections(backend)
    assert roles.count("follow") == 1
    assert roles.count("commands") <= 16
    assert set(roles) == {"follow", "commands"}
    for name in names:
        await bus.journal.append(name, by("a", summary(0)))
    for entries in await asyncio.gather(*following):
        assert len(entries) == 2


async def test_a_new_follower_does_not_wait_for_the_blocking_read(backend: RedisBackend) -> None:
    bus = backend.bus(block_s=PATIENCE_S)
    await bus.jobs.publish(job("idle"))
    idle = asyncio.create_task(followed(bus, "idle"))
    await asyncio.sleep(0.05)
    await bus.jobs.publish(job("r1"))
    await bus.journal.append("r1", by("a", started()))
    await bus.journal.append("r1", by("a", summary(0)))
    async with asyncio.timeout(PATIENCE_S / 4):
        assert len(await followed(bus, "r1")) == 2
    idle.cancel()
    await asyncio.gather(idle, return_exceptions=True)


async def test_the_reading_ends_with_its_last_follower_and_starts_again(
    backend: RedisBackend,
) -> None:
    bus = backend.bus(block_s=0.05)
    for name in ("r1", "r2"):
        await bus.jobs.publish(job(name))
        await bus.journal.append(name, by("a", summary(0)))
        assert len(await followed(bus, name)) == 1
        await asyncio.sleep(0.1)
        assert await blocked(backend) == 0


async def test_followers_of_a_journal_that_vanishes_are_told(backend: RedisBackend) -> None:
    bus = backend.bus(block_s=0.05)
    await bus.jobs.publish(job())
    following = asyncio.create_task(followed(bus))
    await bus.journal.append("r1", by("a", started()))
    await backend.client.delete(backend.keys.journal("r1"))
    with pytest.raises(UnknownRequest):
        await following


async def test_garbage_in_a_journal_ends_its_followers_and_no_others(backend: RedisBackend) -> None:
    bus = backend.bus()
    for name in ("r1", "r2"):
        await bus.jobs.publish(job(name))
    bad, good = (asyncio.create_task(followed(bus, name)) for name in ("r1", "r2"))
    await bus.journal.append("r1", by("a", started()))
    await backend.client.xadd(backend.keys.journal("r1"), {"p": b"\xff"}, id="1-0")
    with pytest.raises(ProtocolViolation):
        await bad
    with pytest.raises(ProtocolViolation):
        await followed(bus, "r1")
    with pytest.raises(ProtocolViolation):
        await bus.journal.read("r1")
    await bus.journal.append("r2", by("a", summary(0)))
    assert len(await good) == 1


async def lose_tail(backend: RedisBackend, lost: str, last: str) -> None:
    """What a server that crashed before its last sync comes back without."""
    key = backend.keys.journal("r1")
    await backend.client.xdel(key, lost)
    await backend.client.execute_command("XSETID", key, last)


async def test_a_writer_whose_last_entry_was_lost_is_fenced_and_it_is_written_again(
    backend: RedisBackend,
) -> None:
    first, second = backend.bus(), backend.bus()
    await first.jobs.publish(job())
    for event in (started(), tokens(0, 2), tokens(2, 2)):
        await first.journal.append("r1", by("a", event))
    await lose_tail(backend, "3-0", "1-0")
    with pytest.raises(Fenced):
        await first.journal.append("r1", by("a", tokens(4)))
    assert token_ids(await second.journal.read("r1")) == [0, 1]
    await second.journal.append("r1", by("b", tokens(2, 3)))
    await second.journal.append("r1", by("b", summary(5)))
    assert token_ids(await followed(second)) == [0, 1, 2, 3, 4]


async def test_a_follower_ahead_of_what_was_lost_is_sent_back_to_attach_by_position(
    backend: RedisBackend,
) -> None:
    writer, router = backend.bus(), backend.bus()
    await writer.jobs.publish(job())
    following = asyncio.create_task(followed(router))
    for event in (started(), tokens(0, 2), tokens(2)):
        await writer.journal.append("r1", by("a", event))

    async def is_read() -> bool:
        feed = router.journal._reader._lanes[""]._feeds.get("r1")
        return feed is not None and feed.last_id == "3-0"

    await until(is_read)
    await lose_tail(backend, "3-0", "1-0")
    await writer.journal.read("r1")
    await writer.journal.append("r1", by("b", tokens(2, 4)))
    await writer.journal.append("r1", by("b", tokens(6)))
    with pytest.raises(BusUnavailable, match="goes on at 6, 3 tokens were read"):
        await following


@pytest.mark.parametrize("is_rewritten", [True, False], ids=["rewritten", "gone"])
async def test_a_follower_that_reconnects_to_a_shorter_history_attaches_again(
    backend: RedisBackend, is_rewritten: bool
) -> None:
    """Unverified tokens may be others the second time, under the same id: positions do not tell."""
    writer, router = backend.bus(), backend.bus()
    await writer.jobs.publish(job())
    following = asyncio.create_task(followed(router))
    for event in (started(), tokens(0, 2), unverified(2)):
        await writer.journal.append("r1", by("a", event))

    async def is_read() -> bool:
        feed = router.journal._reader._lanes[""]._feeds.get("r1")
        return feed is not None and feed.last_id == "3-0"

    await until(is_read)
    await lose_tail(backend, "3-0", "1-0")
    if is_rewritten:
        await writer.journal.read("r1")
        await writer.journal.append("r1", by("b", tokens(2, outcome=Outcome.UNVERIFIED)))
    for client in await backend.client.client_list():
        if client["name"] == f"{backend.prefix}-follow":
            await backend.client.client_kill_filter(_id=client["id"])
    with pytest.raises(BusUnavailable, match="lost its entry 3-0"):
        await following


async def test_a_follower_that_reconnects_to_the_same_history_goes_on(
    backend: RedisBackend,
) -> None:
    bus = backend.bus()
    await bus.jobs.publish(job())
    following = asyncio.create_task(followed(bus))
    for event in (started(), tokens(0, 2), unverified(2), summary(3)):
        await asyncio.sleep(0.02)
        for client in await backend.client.client_list():
            if client["name"] == f"{backend.prefix}-follow":
                await backend.client.client_kill_filter(_id=client["id"])
        await bus.journal.append("r1", by("a", event))
    assert token_ids(await following) == [0, 1, 102]
