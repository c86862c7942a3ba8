"""The bus on a real cluster of three nodes: every key in its slot, nothing lost in restarts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from hola.bus.connect import open_bus
from hola.bus.ports import Bus
from hola.bus.redis import RedisBus
from hola.bus.streams import BusLimits, Keys
from hola.errors import BusUnavailable, DuplicateRequest, Fenced, UnknownRequest
from hola.retrieval.ingest_job import IngestJob, IngestReport, IngestState
from tests.support.bus import (
    PATIENCE_S,
    by,
    followed,
    job,
    started,
    summary,
    token_ids,
    tokens,
)
from tests.support.redis import Server, cluster, user

pytestmark = pytest.mark.redis

Connect = Callable[..., RedisBus]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """A cluster for this module."""
    with cluster(tmp_path_factory.mktemp("cluster"), *user("hola", "s3cret", "test-*")) as made:
        yield made


@pytest.fixture
async def connect(nodes: list[Server]) -> AsyncIterator[Connect]:
    """Makes buses that share a prefix of the test's own, as the documented user."""
    prefix, made = f"test-{uuid.uuid4().hex}", []

    def bus(**limits: Any) -> RedisBus:
        url = "redis+cluster://hola:s3cret@" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        made.append(RedisBus(url, limits=BusLimits(**limits), prefix=prefix))
        return made[-1]

    yield bus
    for each in made:
        await each.close()


async def run(bus: Bus, name: str) -> None:
    """Take the next job and do it, as a drafter would."""
    delivery = await bus.jobs.take("drafter", timeout_s=PATIENCE_S)
    assert delivery is not None
    name = delivery.job.request_id
    assert await bus.journal.read(name) == []
    await bus.journal.append(name, by("a", started(name)))
    for position in range(3):
        await bus.journal.append(name, by("a", tokens(position)))
    await bus.jobs.renew("drafter", delivery)
    await bus.journal.append(name, by("a", summary(3)))
    await bus.jobs.ack(delivery)


async def test_requests_on_every_node_are_published_run_and_followed(
    connect: Connect, nodes: list[Server]
) -> None:
    router, drafter = connect(), connect()
    names = [f"r{number}" for number in range(40)]
    for number, name in enumerate(names):
        await router.jobs.publish(job(name, f"t{number % 3}"))
    with pytest.raises(DuplicateRequest):
        await drafter.jobs.publish(job("r0"))
    assert await router.jobs.depth() == 40
    following = [asyncio.create_task(followed(router, name)) for name in names]
    for name in names:
        await run(drafter, name)
    for entries in await asyncio.gather(*following):
        assert token_ids(entries) == [0, 1, 2]
    assert await drafter.journal.owner("r1") == "t1"
    assert await router.jobs.depth() == 0
    prefix = router._link.keys.prefix
    held = [node.cli("--scan", "--pattern", f"{prefix}:*:journal:*").split() for node in nodes]
    assert all(held), "every node holds some of the journals"
    assert sum(map(len, held)) == 40


async def test_the_rest_of_the_bus_works_on_a_cluster(connect: Connect) -> None:
    router, drafter = connect(job_idle_s=0.3, max_attempts=1), connect()
    await router.ping()
    await router.jobs.publish(job("r1", "acme"))
    assert await router.jobs.take("a", timeout_s=0) is not None
    await asyncio.sleep(0.4)
    assert await router.jobs.take("a", timeout_s=0) is None
    [letter] = await router.jobs.dead_letters()
    await drafter.jobs.replay(letter.id)
    delivery = await drafter.jobs.take("b", timeout_s=0)
    assert delivery is not None
    await drafter.jobs.release("b", delivery)
    assert await router.journal.cancel("r1") is True
    with pytest.raises(Fenced):
        await drafter.journal.append("r1", by("b", started()))
    assert [await router.quota.spend("t", rate_per_s=0.01, burst=1) == 0 for _ in range(2)] == [
        True,
        False,
    ]
    assert await drafter.registry.verifiers() == ()
    notices = drafter.notices.follow()
    waiting = asyncio.create_task(anext(notices))
    while not waiting.done():
        await router.notices.ended("r1")  # those before the first read are not seen
        await asyncio.wait({waiting}, timeout=0.05)
    assert await waiting == "r1"
    await notices.aclose()
    await router.journal.attend("r1", 5)
    assert await drafter.journal.is_attended("r1")
    with pytest.raises(UnknownRequest):
        await followed(router, "never")


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.slow)])
async def test_a_node_that_restarts_in_mid_stream_is_waited_for(
    connect: Connect, nodes: list[Server], count: int
) -> None:
    limits = {"retry_s": 3 * PATIENCE_S, "reconnect_s": 3 * PATIENCE_S}
    router, drafter = connect(**limits), connect(**limits)
    names = [f"r{number}" for number in range(8)]
    for name in names:
        await router.jobs.publish(job(name))
    following = [asyncio.create_task(followed(router, name)) for name in names]
    for name in names:
        await drafter.journal.append(name, by("a", started(name)))

    async def write(name: str) -> None:
        for position in range(20):
            await drafter.journal.append(name, by("a", tokens(position)))
        await drafter.journal.append(name, by("a", summary(20)))

    writing = [asyncio.create_task(write(name)) for name in names]
    for node in nodes[:count]:
        node.stop()
        await asyncio.sleep(0.1)
        await asyncio.to_thread(node.start)
    await asyncio.gather(*writing)
    for entries in await asyncio.gather(*following):
        assert token_ids(entries) == list(range(20))


async def test_ingest_jobs_on_a_cluster(connect: Connect) -> None:
    router, worker = connect(job_idle_s=0.1, max_attempts=1), connect(job_idle_s=0.1)
    for name in ("done", "lost"):
        await router.ingests("here").publish(IngestJob(job_id=name, tenant="acme"))
    queue = worker.ingests("here")
    for _ in range(2):
        delivery = await queue.take("w", timeout_s=PATIENCE_S)
        assert delivery is not None
        report = IngestReport(job_id=delivery.job.job_id, state=IngestState.RUNNING, added=2)
        await queue.renew("w", delivery, report)
        if delivery.job.job_id == "done":
            await queue.finish("w", delivery, replace(report, state=IngestState.DONE))
    await asyncio.sleep(0.15)
    assert await router.ingests("here").take("x", timeout_s=0) is None
    states = {one.job_id: one.state for one in await router.ingest_reports.reports("acme")}
    assert states == {"done": IngestState.DONE, "lost": IngestState.FAILED}
    assert await queue.depth() == 0


async def test_keys_of_one_script_share_a_slot(nodes: list[Server]) -> None:
    keys = Keys("site")

    def slot(key: str) -> str:
        return nodes[0].cli("cluster", "keyslot", key)

    queue = [keys.tenants, keys.queue("a"), keys.queue("b"), keys.queued, keys.ready]
    assert len({slot(key) for key in [*queue, keys.dead_letters]}) == 1
    assert len({slot(key) for key in keys.registry}) == 1
    ingests = keys.ingests("here")
    reports = [keys.ingest_report("acme", "j1"), keys.ingest_reports("acme")]
    assert len({slot(key) for key in [ingests.tenants, ingests.queue("a"), *reports]}) == 1
    for name in ("r1", "r2"):
        own = [keys.journal(name), keys.request(name), keys.attended(name)]
        assert len({slot(key) for key in [*own, keys.wake(keys.lane(name), "x")]}) == 1


async def test_a_cluster_that_is_not_there_is_reported() -> None:
    async with asyncio.timeout(3 * PATIENCE_S):
        with pytest.raises(BusUnavailable) as caught:
            await open_bus(
                "redis+cluster://user:s3cret@127.0.0.1:1,127.0.0.1:2",
                limits=BusLimits(retry_s=0.3),
            )
    assert "s3cret" not in f"{caught.value!r} {caught.value.details}"
