"""Router processes are killed in mid-stream: any other one on the same Redis goes on."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from hola.errors import ServiceUnavailable
from hola.idempotency import request_id_of_key
from hola.rpc.router_client import RouterClient
from hola.types import FinishReason, SamplingParams, Tokens
from tests.support.process import running_service
from tests.support.scripted_system import tokens_of
from tests.support.system import MODEL, PROMPT, collect, request, running_system, terminal
from tests.support.verifier import eventually, reference

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]
WANTED = request(sampling=SamplingParams(max_tokens=60, temperature=0.7, seed=5))
KEYED = replace(WANTED, request_id="", idempotency_key="once")


@pytest.fixture(scope="module")
def database(start_redis):
    """A redis-server of this module's own."""
    return start_redis().url


@pytest.fixture
async def system(tmp_path, database):
    async with running_system("redis", tmp_path, database) as running:
        yield running


@asynccontextmanager
async def router_process(folder, database, name):
    """A router of its own process, and a client of it."""
    address = f"unix://{folder}/{name}.sock"
    settings = {
        "HOLA_LISTEN": address,
        "HOLA_BUS": database,
        "HOLA_MODEL": MODEL,
        "HOLA_MODELS_DIR": str(folder),
        "HOLA_DETACH_GRACE_S": "1",
    }
    async with running_service("hola_router", **settings) as process:
        await process.event("serving")
        yield process


def client_of(system, folder, name, **changes):
    settings = system.settings.model_copy(update={"reattach_s": 60.0, **changes})
    return RouterClient(f"unix://{folder}/{name}.sock", settings)


def expected_ids(system):
    sampling = WANTED.sampling
    return reference(system.engine, sampling.max_tokens, sampling, tuple(PROMPT.encode()))


async def head_of(stream, system, count):
    """The first `count` events; the target is held behind them."""
    head = []
    async for event in stream:
        head.append(event)
        if len(head) == count:
            system.engine.hold()
            return head
    raise AssertionError("the stream ended early")


async def drain_into(head, stream):
    async for event in stream:
        head.append(event)


@pytest.mark.parametrize("count", [1, 3])
async def test_another_router_goes_on_where_a_killed_one_stopped(system, tmp_path, database, count):
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(router_process(tmp_path, database, "a"))
        await stack.enter_async_context(router_process(tmp_path, database, "b"))
        before = client_of(system, tmp_path, "a", reattach_s=0.0)
        after = client_of(system, tmp_path, "b")
        stack.push_async_callback(before.close)
        stack.push_async_callback(after.close)
        async with aclosing(before.generate(WANTED)) as stream:
            head = await head_of(stream, system, count)
            first.signal(signal.SIGKILL)
            with pytest.raises(ServiceUnavailable):
                await drain_into(head, stream)
        got = tokens_of(head)
        resumed = asyncio.create_task(collect(after.resume(WANTED.request_id, len(got))))
        system.engine.release()
        tail = await resumed
        rest = [each for event in tail if isinstance(event, Tokens) for each in event.tokens]
        assert [token.token for token in (*got, *rest)] == expected_ids(system)
        assert terminal(tail).finish_reason is FinishReason.LENGTH
        await eventually(lambda: system.sessions_left == 0, "the verifier freed the session")


async def test_a_client_survives_its_routers_death_and_return(system, tmp_path, database):
    """Nobody tells the new process anything: the client re-attaches by itself."""
    async with AsyncExitStack() as stack:
        client = client_of(system, tmp_path, "a")
        stack.push_async_callback(client.close)
        first = await stack.enter_async_context(router_process(tmp_path, database, "a"))
        stream = client.generate(replace(WANTED, request_id=""))
        async with aclosing(stream):
            head = await head_of(stream, system, 3)
            first.signal(signal.SIGKILL)
            await first.exit_code()
            (tmp_path / "a.sock").unlink(missing_ok=True)
            await stack.enter_async_context(router_process(tmp_path, database, "a"))
            system.engine.release()
            events = head + [event async for event in stream]
        assert [token.token for token in tokens_of(events)] == expected_ids(system)
        assert terminal(events).finish_reason is FinishReason.LENGTH


async def test_a_key_finds_the_stream_of_a_router_that_died(system, tmp_path, database):
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(router_process(tmp_path, database, "a"))
        await stack.enter_async_context(router_process(tmp_path, database, "b"))
        before = client_of(system, tmp_path, "a", reattach_s=0.0)
        after = client_of(system, tmp_path, "b")
        stack.push_async_callback(before.close)
        stack.push_async_callback(after.close)
        async with aclosing(before.generate(KEYED)) as stream:
            head = await head_of(stream, system, 3)
            first.signal(signal.SIGKILL)
            await first.exit_code()
        assert head[0].request_id == request_id_of_key("once")
        again = asyncio.create_task(collect(after.generate(KEYED)))
        system.engine.release()
        events = await again
        assert events[: len(head)] == head
        assert [token.token for token in tokens_of(events)] == expected_ids(system)
        assert await collect(after.generate(KEYED)) == events
        jobs = system.engine.opened_sessions
        assert jobs == 1, "one session of the target for three calls"


async def test_calls_with_one_key_race_at_two_routers(system, tmp_path, database):
    async with AsyncExitStack() as stack:
        clients = []
        for name in ("a", "b"):
            await stack.enter_async_context(router_process(tmp_path, database, name))
            clients.append(client_of(system, tmp_path, name))
            stack.push_async_callback(clients[-1].close)
        for n in range(5):
            wanted = replace(KEYED, idempotency_key=f"race-{n}")
            streams = await asyncio.gather(
                *(collect(client.generate(wanted)) for client in clients * 3)
            )
            assert all(stream == streams[0] for stream in streams), f"race {n}"
            assert [token.token for token in tokens_of(streams[0])] == expected_ids(system)
        assert system.engine.opened_sessions == 5
