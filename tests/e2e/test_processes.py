"""Whole processes on sockets: any of them is killed in mid-stream, the text stays the same."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from hola.bus.from_settings import bus_from
from hola.config import Settings
from hola.errors import HolaError
from hola.rpc.drafter_client import GrpcDrafter
from hola.rpc.router_client import RouterClient
from hola.types import (
    Failure,
    FinishReason,
    GenerateJob,
    GenerateRequest,
    SamplingParams,
    Started,
    Summary,
    Tokens,
)
from tests.support.cluster import Cluster
from tests.support.scripted_system import ids_of, text_of

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

PROMPT = "Tom has 12 apples. He buys 5 more."


@pytest.fixture(scope="module")
def redis_server(start_redis):
    """A redis-server of this module's own."""
    return start_redis()


@pytest.fixture
def cluster(tmp_path, redis_server):
    with redis.Redis.from_url(redis_server.url) as database:
        database.flushdb()
    made = Cluster(folder=tmp_path, bus=redis_server.url)
    yield made
    made.stop()


def request(request_id: str, max_tokens: int = 2000) -> GenerateRequest:
    sampling = SamplingParams(max_tokens=max_tokens, temperature=0.8, seed=5)
    return GenerateRequest(request_id=request_id, prompt=PROMPT, sampling=sampling)


async def stream(cluster: Cluster, wanted: GenerateRequest, at: dict[int, Callable] | None = None):
    """All events of a request; `at` maps a number of received tokens to what happens then."""
    client = RouterClient(cluster.address("router"), Settings(reattach_s=40, rpc_timeout_s=40))
    events, pending, received = [], dict(at or {}), 0
    try:
        async with asyncio.timeout(120):
            async for event in client.generate(wanted):
                events.append(event)
                received += len(event.tokens) if isinstance(event, Tokens) else 0
                for due in [count for count in pending if count <= received]:
                    await pending.pop(due)()
    finally:
        await client.close()
    assert not pending, f"the stream ended before {pending} tokens"
    return events


def check(events, expected) -> None:
    """The same text and ids, one Started, one end."""
    assert isinstance(events[0], Started)
    assert [e for e in events if isinstance(e, Summary | Failure)] == events[-1:]
    assert isinstance(events[-1], Summary), events[-1]
    assert ids_of(events) == ids_of(expected)
    assert text_of(events) == text_of(expected)
    assert events[-1].completion_tokens == len(ids_of(expected))


async def writers(cluster: Cluster, request_id: str) -> list[str]:
    """The drafters that wrote a request's journal, in order."""
    bus = await bus_from(Settings(bus=cluster.bus))
    try:
        names = [entry.writer for entry in await bus.journal.read(request_id)]
    finally:
        await bus.close()
    return list(dict.fromkeys(names))


async def test_kill_9_anything_in_mid_stream(cluster):
    await cluster.up()
    expected = await stream(cluster, request("whole"))
    assert expected[-1].finish_reason is FinishReason.LENGTH

    async def kill_drafter():
        cluster.kill("drafter")
        cluster.start("drafter", "heir")

    check(await stream(cluster, request("drafter-killed"), {40: kill_drafter}), expected)
    assert await writers(cluster, "drafter-killed") == ["drafter", "heir"]

    async def kill_verifier():
        cluster.kill("verifier")
        cluster.start("verifier")

    events = await stream(cluster, request("verifier-killed"), {60: kill_verifier})
    check(events, expected)
    assert events[-1].reconnects >= 1

    async def kill_router():
        cluster.kill("router")
        cluster.start("router")

    check(await stream(cluster, request("router-killed"), {50: kill_router}), expected)

    async def kill_all():
        for name in ("heir", "router", "verifier"):
            cluster.kill(name)
        for service in ("verifier", "router"):
            cluster.start(service)
        cluster.start("drafter", "second-heir")

    check(await stream(cluster, request("all-killed"), {30: kill_all}), expected)
    assert await writers(cluster, "all-killed") == ["heir", "second-heir"]


async def test_a_drafter_that_was_frozen_is_fenced(cluster):
    await cluster.up()
    expected = await stream(cluster, request("whole"))
    frozen = cluster.processes["drafter"]

    async def freeze():
        frozen.send_signal(signal.SIGSTOP)
        cluster.start("drafter", "heir")

    check(await stream(cluster, request("frozen"), {40: freeze}), expected)
    assert await writers(cluster, "frozen") == ["drafter", "heir"]
    frozen.send_signal(signal.SIGCONT)
    cluster.kill("heir")
    check(await stream(cluster, request("thawed")), expected)
    assert await writers(cluster, "frozen") == ["drafter", "heir"], "it left a trace"


async def test_redis_restarts_in_mid_stream(cluster, redis_server):
    await cluster.up()
    expected = await stream(cluster, request("whole-redis"))

    async def restart_redis():
        redis_server.kill()
        redis_server.start()

    check(await stream(cluster, request("redis-killed"), {40: restart_redis}), expected)


async def test_sigterm_is_orderly_and_a_wrong_setting_is_an_exit_code(cluster):
    await cluster.up()
    await stream(cluster, request("before-the-end", 20))
    for service in ("router", "drafter", "verifier"):
        assert cluster.terminate(service) == 0, cluster.log(service)
    cluster.start("drafter", "typo", HOLA_VERIFER="grpc://127.0.0.1:1")
    assert cluster.processes["typo"].wait(timeout=30) == 2
    assert "HOLA_VERIFIER" in cluster.log("typo")
    cluster.start("router", "nobody", HOLA_MODEL="no-such-model")
    assert cluster.processes["nobody"].wait(timeout=30) == 3
    assert "no-such-model" in cluster.log("nobody")


async def test_a_drafter_on_its_own_needs_no_router(cluster):
    cluster.start("verifier")
    cluster.start("drafter", HOLA_BUS="memory:")
    await cluster.ready()
    client = GrpcDrafter(cluster.address("drafter"), Settings())
    try:
        job = GenerateJob(request_id="direct", model="", prompt=PROMPT)
        events = [event async for event in client.generate(job)]
        assert isinstance(events[-1], Summary)
        with pytest.raises(HolaError):
            _ = [e async for e in client.generate(GenerateJob(request_id="x", model="", prompt=""))]
    finally:
        await client.close()


async def test_the_demo_tiers_survive_killed_processes(cluster):
    if not (cluster.models_dir / "demo" / "hola.json").is_file():
        pytest.skip("models/demo is not in this checkout")
    cluster.model = "demo"
    await cluster.up()
    wanted = [
        GenerateRequest(
            prompt=f"Tom has {n} apples. He buys 5 more.",
            sampling=SamplingParams(max_tokens=200, temperature=1.0, seed=n),
        )
        for n in range(3)
    ]
    expected = [
        await stream(cluster, replace(each, request_id=f"whole-{n}"))
        for n, each in enumerate(wanted)
    ]

    async def kill_drafter():
        cluster.kill("drafter")
        cluster.start("drafter")

    async def kill_verifier():
        cluster.kill("verifier")
        cluster.start("verifier")

    for n, due in enumerate((kill_drafter, kill_verifier, kill_drafter)):
        again = replace(wanted[n], request_id=f"killed-{n}")
        check(await stream(cluster, again, {3: due}), expected[n])
