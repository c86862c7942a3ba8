"""The bus behind real sentinels: a master dies, its replica takes over, and streams go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hola.bus.connect import open_bus
from hola.bus.ports import Bus
from hola.bus.redis import RedisBus
from hola.bus.streams import BusLimits
from hola.errors import BusUnavailable, HolaError
from tests.support.bus import (
    PATIENCE_S,
    by,
    followed,
    job,
    started,
    summary,
    token_ids,
    tokens,
    until,
)
from tests.support.redis import Watched, watched

pytestmark = pytest.mark.redis

COUNT = 30


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A master, a replica and three sentinels; the last test kills the master."""
    with watched(tmp_path_factory.mktemp("sentinel")) as made:
        yield made


async def append_until_done(bus: Bus) -> None:
    """What a drafter does, and its heir: read the journal, and go on from there to the end."""
    while True:
        entries = await bus.journal.read("r1")
        if entries and entries[-1].event == summary(COUNT):
            return
        try:
            if not entries:
                await bus.journal.append("r1", by("a", started()))
            for position in range(len(token_ids(entries)), COUNT):
                await bus.journal.append("r1", by("a", tokens(position)))
                await asyncio.sleep(0.02)
            await bus.journal.append("r1", by("a", summary(COUNT)))
        except HolaError:
            await asyncio.sleep(0.1)  # lost with the old master, or fenced by it: read again


async def follow_until_done(bus: Bus) -> list[int]:
    """What a router does: attach again behind what has been received already."""
    received: list[int] = []
    while True:
        try:
            seen: list[int] = []
            async for entry in bus.journal.follow("r1"):
                seen += token_ids([entry])
                received += seen[len(received) :]
            return received
        except BusUnavailable:
            await asyncio.sleep(0.1)


async def test_an_unknown_service_or_absent_sentinels_are_reported(servers: Watched) -> None:
    for url in (
        servers.url.replace("/main", "/other"),
        "redis+sentinel://user:s3cret@127.0.0.1:1,127.0.0.1:2/main",
    ):
        async with asyncio.timeout(3 * PATIENCE_S):
            with pytest.raises(BusUnavailable) as caught:
                await open_bus(url, limits=BusLimits(retry_s=0.3))
        assert "s3cret" not in f"{caught.value!r} {caught.value.details}"


async def test_a_failover_in_mid_stream_ends_in_the_same_stream(servers: Watched) -> None:
    limits = BusLimits(retry_s=3 * PATIENCE_S, reconnect_s=3 * PATIENCE_S)
    router, drafter = (RedisBus(servers.url, limits=limits) for _ in range(2))
    await router.jobs.publish(job())
    delivery = await drafter.jobs.take("drafter", timeout_s=PATIENCE_S)
    assert delivery is not None
    following = asyncio.create_task(follow_until_done(router))
    writing = asyncio.create_task(append_until_done(drafter))

    async def is_under_way() -> bool:
        return len(await router.journal.read("r1")) >= 5

    await until(is_under_way)
    servers.master.stop()
    async with asyncio.timeout(6 * PATIENCE_S):
        await writing
        assert await following == list(range(COUNT))
    assert token_ids(await followed(router)) == list(range(COUNT))
    await drafter.jobs.ack(delivery)
    await router.jobs.publish(job("r2"))
    again = await drafter.jobs.take("drafter", timeout_s=PATIENCE_S)
    assert again is not None
    assert again.job.request_id == "r2"
    await router.close()
    await drafter.close()
