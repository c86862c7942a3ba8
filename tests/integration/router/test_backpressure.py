"""Clients that do not read, do not leave, or do nothing but come and go: bounded, others served."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path

import grpc
import grpc.aio
import pytest
from redis.asyncio import Redis

import hola_router.app
from hola.bus.redis import RedisBus
from hola.bus.streams import Keys
from hola.config import Settings
from hola.convert import encode_entry, request_to_pb
from hola.errors import Fenced, Overloaded, ServiceUnavailable
from hola.rpc.errors import error_from_call
from hola.rpc.router_client import RouterClient
from hola.types import (
    FinishReason,
    GenerateRequest,
    JournalEntry,
    Outcome,
    SamplingParams,
    TokenEvent,
    Tokens,
)
from hola.v1 import router_pb2_grpc
from tests.support.process import running_service
from tests.support.router import MODEL, play, story, write
from tests.support.system import collect, request, running_system, terminal
from tests.support.verifier import eventually

pytestmark = pytest.mark.redis
PATIENCE_S = 60
# A client whose first unread bytes already stop the sender.
STINGY = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]


@pytest.fixture(scope="module")
def server(start_redis):
    """A redis-server of this module's own."""
    return start_redis()


@pytest.fixture
async def database(server):
    """An empty database's URL."""
    async with Redis.from_url(server.url) as client:
        await client.flushdb()
    return server.url


@pytest.fixture
async def bus(database):
    made = RedisBus(database)
    yield made
    await made.close()


@pytest.fixture
async def start(tmp_path, database):
    """Start a router with these settings; gives it and a stub whose client reads little."""
    async with AsyncExitStack() as stack:

        async def begin(**changes):
            values = {
                "listen": f"unix://{tmp_path}/router.sock",
                "bus": database,
                "model": MODEL,
                "models_dir": str(tmp_path),
                "drain_s": 0.0,
                **changes,
            }
            settings = Settings(**values)
            app = hola_router.app.build(settings)
            await app.start()
            stack.push_async_callback(app.stop)
            channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/router.sock", options=STINGY)
            stack.push_async_callback(channel.close)
            client = RouterClient(app.address, settings)
            stack.push_async_callback(client.close)
            return app.router, router_pb2_grpc.RouterServiceStub(channel), client

        yield begin


def big(position: int) -> Tokens:
    """A token of 1000 bytes."""
    token = TokenEvent(token=1, text="x" * 1000, tier=0, outcome=Outcome.PLAIN)
    return Tokens(position=position, tokens=(token,))


def ask(request_id: str) -> GenerateRequest:
    return GenerateRequest(request_id=request_id, prompt="Hello")


async def taken(bus):
    async with asyncio.timeout(PATIENCE_S):
        return await bus.jobs.take("d", timeout_s=PATIENCE_S)


async def no_stream_is_left(router):
    async with asyncio.timeout(PATIENCE_S):
        while (await router.info()).active_requests:  # noqa: ASYNC110 - clients end them
            await asyncio.sleep(0.02)


async def rest_of(call):
    """Messages that can still be read, and the error at the end."""
    count = 0
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for _ in call:
                count += 1
    except grpc.aio.AioRpcError as error:
        return count, error_from_call(error)
    return count, None


async def test_an_unread_stream_is_cut_and_says_so(start, bus):
    router, stub, client = await start(unread_s=0.5, detach_grace_s=1000.0)
    unread = stub.Generate(request_to_pb(ask("r1")))
    job = (await taken(bus)).job
    reading = asyncio.create_task(collect(client.resume("r1")))
    # The drafter writes on: nobody's reading is its business.
    await write(bus, "r1", [story(job)[0], *map(big, range(300))])
    async with asyncio.timeout(PATIENCE_S):
        while len(router._attachments._streams) and router._attachments._streams["r1"] > 1:  # noqa: ASYNC110 - the client's silence ends it
            await asyncio.sleep(0.02)
    await write(bus, "r1", story(job, 300)[-1:])
    assert len(await reading) == 302, "the one who reads gets everything"
    count, error = await rest_of(unread)
    assert isinstance(error, ServiceUnavailable)
    assert "resume" in error.message
    assert 0 < count < 300
    again = await collect(client.resume("r1", count - 1))
    assert terminal(again).finish_reason is FinishReason.LENGTH
    assert sum(isinstance(event, Tokens) for event in again) == 300 - (count - 1)


async def test_a_request_that_only_an_unread_stream_holds_is_given_up(start, bus):
    router, stub, _ = await start(unread_s=0.3, detach_grace_s=0.1)
    unread = stub.Generate(request_to_pb(ask("r1")))
    job = (await taken(bus)).job
    with suppress(Fenced):  # it may be over by then
        await write(bus, "r1", [story(job)[0], *map(big, range(300))])
    await no_stream_is_left(router)
    async with asyncio.timeout(PATIENCE_S):
        while not await bus.journal.has_ended("r1"):  # noqa: ASYNC110 - the other side is a socket
            await asyncio.sleep(0.02)
    unread.cancel()


async def test_an_unread_stream_ends_by_its_deadline(start, bus):
    router, stub, _ = await start(unread_s=1000.0, detach_grace_s=1000.0)
    unread = stub.Generate(request_to_pb(ask("r1")), timeout=5.0)
    job = (await taken(bus)).job
    with suppress(Fenced):  # it may be over by then
        await write(bus, "r1", [story(job)[0], *map(big, range(300))])
    await no_stream_is_left(router)
    async with asyncio.timeout(PATIENCE_S):
        while not await bus.journal.has_ended("r1"):  # noqa: ASYNC110 - the other side is a socket
            await asyncio.sleep(0.02)
    unread.cancel()


async def test_a_client_that_reads_slowly_keeps_its_stream(start, bus):
    """Each message is taken well within the limit, the whole stream is not."""
    _, stub, _ = await start(unread_s=3.0)
    slow = stub.Generate(request_to_pb(ask("r1")))
    job = (await taken(bus)).job
    await write(bus, "r1", [story(job)[0], *map(big, range(60)), story(job, 60)[-1]])
    count = 0
    async with asyncio.timeout(PATIENCE_S):
        async for _ in slow:
            count += 1
            await asyncio.sleep(0.07)
    assert count == 62


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


async def fill(database, request_id, count, size):
    """Write `count` tokens of `size` bytes into a journal, without waiting for each."""
    token = TokenEvent(token=1, text="x" * size, tier=0, outcome=Outcome.PLAIN)
    key = Keys().journal(request_id)
    async with Redis.from_url(database) as client, client.pipeline(transaction=False) as pipeline:
        for position in range(count):
            entry = JournalEntry(event=Tokens(position=position, tokens=(token,)))
            pipeline.xadd(key, {b"p": encode_entry(entry)}, id=f"{position + 1}-0")
        await pipeline.execute()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_unread_streams_cost_bounded_memory(tmp_path, database, bus):
    """10 clients read nothing of 4 MB each; the router holds 256 entries of each, at most."""
    settings = {
        "HOLA_LISTEN": f"unix://{tmp_path}/router.sock",
        "HOLA_BUS": database,
        "HOLA_MODEL": MODEL,
        "HOLA_MODELS_DIR": str(tmp_path),
        "HOLA_UNREAD_S": "1000",
    }
    async with running_service("hola_router", **settings) as process:
        await process.event("serving")
        channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/router.sock", options=STINGY)
        stub = router_pb2_grpc.RouterServiceStub(channel)
        unread = [stub.Generate(request_to_pb(ask(f"r{n}"))) for n in range(10)]
        for _ in unread:
            assert (await taken(bus)).job
        before = rss_mib(process._process.pid)
        for n in range(10):
            await fill(database, f"r{n}", count=2000, size=2000)
        # Whoever reads gets everything meanwhile; then the router has seen all of it.
        client = RouterClient(f"unix://{tmp_path}/router.sock", Settings())
        assert await bus.journal.cancel("r7")
        events = await collect(client.resume("r7"))
        assert sum(isinstance(event, Tokens) for event in events) == 2000
        grown = rss_mib(process._process.pid) - before
        print(f"10 unread streams of 4 MB each: the router grew by {grown:.0f} MiB")
        assert grown < 30, "40 MB were written"
        for call in unread:
            call.cancel()
        await client.close()
        await channel.close()


@pytest.mark.timeout(400)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_thousand_idle_clients(tmp_path, database, server, bus):
    """They wait on one Redis connection, cost little, and each gets its end."""
    settings = {
        "HOLA_LISTEN": f"unix://{tmp_path}/router.sock",
        "HOLA_BUS": database,
        "HOLA_MODEL": MODEL,
        "HOLA_MODELS_DIR": str(tmp_path),
        "HOLA_MAX_CALLS": "1100",
        "HOLA_QUEUE_LIMIT": "2000",
        "HOLA_DETACH_GRACE_S": "1000",
    }
    async with running_service("hola_router", **settings) as process:
        await process.event("serving")
        before = rss_mib(process._process.pid)
        channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/router.sock")
        stub = router_pb2_grpc.RouterServiceStub(channel)
        client = RouterClient(f"unix://{tmp_path}/router.sock", Settings(rpc_timeout_s=PATIENCE_S))
        waiting = [stub.Generate(request_to_pb(ask(f"r{n}"))) for n in range(1000)]
        async with asyncio.timeout(3 * PATIENCE_S):
            while (await client.info()).active_requests < 1000:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)
        grown = rss_mib(process._process.pid) - before
        print(f"1000 idle clients: {grown * 1024 / 1000:.0f} KiB each")
        assert grown < 150
        async with Redis.from_url(database) as redis:
            assert len(await redis.client_list()) < 40, "connections do not grow with the clients"
        # One more is served as if there were none of them.
        extra = asyncio.create_task(collect(client.generate(ask("extra"))))
        while (job := await play(bus)).request_id != "extra":
            pass
        assert job.request_id == "extra"
        assert terminal(await extra).finish_reason is FinishReason.LENGTH
        ends = asyncio.gather(*(rest_of(call) for call in waiting))
        assert all(error is None and count >= 5 for count, error in await ends)
        await client.close()
        await channel.close()


async def test_one_call_too_many_is_told_so(start, bus):
    router, stub, client = await start(max_calls=3, detach_grace_s=0.1)
    calls = [stub.Generate(request_to_pb(ask(f"r{n}"))) for n in range(3)]
    for _ in calls:
        await taken(bus)
    _, error = await rest_of(stub.Generate(request_to_pb(ask("r4"))))
    assert isinstance(error, Overloaded)
    with pytest.raises(Overloaded):
        await client.info()
    for call in calls:
        call.cancel()
    await no_stream_is_left(router)
    assert (await client.info()).active_requests == 0


async def test_coming_and_cancelling_in_a_loop_leaves_nothing(tmp_path, database):
    """100 requests are begun and cancelled or dropped; another client's streams run on."""
    async with running_system("redis", tmp_path, database, detach_grace_s=0.1) as system:
        long = SamplingParams(max_tokens=3000)
        refused = 0

        async def come_and_go(n):
            nonlocal refused
            try:
                async with aclosing(
                    system.client.generate(request(f"r{n}", sampling=long))
                ) as all_:
                    await anext(all_)
                    if n % 2:
                        await system.client.cancel(f"r{n}")
            except Overloaded:
                refused += 1

        async def busy():
            for first in range(0, 100, 10):
                await asyncio.gather(*(come_and_go(first + k) for k in range(10)))

        loop = asyncio.create_task(busy())
        served = 0
        while not loop.done():
            events = await collect(system.client.generate(request(f"good-{served}")))
            assert terminal(events).finish_reason is FinishReason.LENGTH
            served += 1
        await loop
        assert served > 0
        assert refused == 0
        async with asyncio.timeout(PATIENCE_S):
            while await system.bus.jobs.depth():  # noqa: ASYNC110 - the other side is a socket
                await asyncio.sleep(0.02)
        await eventually(lambda: system.sessions_left == 0, "every session was freed", 30)
        assert (await system.client.info()).active_requests == 0
