"""A full system turns clients away with a time, and lets them in when they come back at it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from hola.bus.redis import RedisBus
from hola.bus.streams import BusLimits
from hola.convert import request_to_pb
from hola.errors import Overloaded, QuotaExceeded
from hola.rpc.admitted import when_admitted
from hola.rpc.errors import DETAILS_KEY
from hola.types import FinishReason, GenerateRequest, SamplingParams
from hola.v1 import router_pb2_grpc
from hola_router.gate import Gate
from hola_router.tenants import TenantLimits, Tenants
from tests.support.router import play, router_on
from tests.support.system import PROMPT, collect, request, running_system, terminal

pytestmark = [pytest.mark.redis, pytest.mark.timeout(240)]
PATIENCE_S = 60


@pytest.fixture(scope="module")
def server(start_redis):
    """A redis-server of this module's own."""
    return start_redis()


TENANTS = Tenants(
    own={"slow": TenantLimits(rate=0.001, burst=5), "small": TenantLimits(requests=3)}
)


@pytest.fixture
async def start(server, tmp_path):
    """Three routers of one Redis, as three processes would be, with these bounds of the bus."""
    async with AsyncExitStack() as stack:

        def begin(**limits):
            made = []
            for _ in range(3):
                bus = RedisBus(server.url, limits=BusLimits(**limits), prefix=tmp_path.name)
                stack.push_async_callback(bus.close)
                router = router_on(bus, tmp_path, gate=Gate(bus, tenants=TENANTS))
                stack.push_async_callback(router.close)
                made.append((router, bus))
            return made

        yield begin


async def begin_all(routers, tenant, count):
    """Begin `count` requests at once, spread over the routers; who was refused, and why."""
    got = await asyncio.gather(
        *(
            routers[n % len(routers)][0].accept(
                GenerateRequest(request_id=f"{tenant}-{n}", prompt="x"), tenant=tenant
            )
            for n in range(count)
        ),
        return_exceptions=True,
    )
    refused = [each for each in got if isinstance(each, BaseException)]
    return count - len(refused), refused


async def test_routers_agree_on_a_tenants_rate(start):
    admitted, refused = await begin_all(start(), "slow", 30)
    assert admitted == 5
    assert all(type(each) is QuotaExceeded for each in refused)
    assert all(0 < each.retry_after_s <= 1000.01 for each in refused)


async def test_routers_agree_on_a_tenants_share(start):
    routers = start(tenant_queue_limit=3)
    admitted, refused = await begin_all(routers, "small", 12)
    assert admitted == 3
    assert all(type(each) is QuotaExceeded for each in refused)
    admitted, _ = await begin_all(routers, "other", 2)
    assert admitted == 2, "another tenant has its own share"
    await play(routers[0][1])
    assert await routers[0][1].jobs.depth() == 4


async def test_a_refusal_carries_its_time_and_waiting_it_out_helps(tmp_path, server):
    limits = {"queue_limit": 1, "concurrency": 1}
    async with running_system("redis", tmp_path, server.url, **limits) as system:
        system.engine.hold()
        first = asyncio.create_task(collect(system.client.generate(request("first"))))
        await system.engine.in_pass()
        channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/router.sock")
        stub = router_pb2_grpc.RouterServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            _ = [event async for event in stub.Generate(request_to_pb(request("second")))]
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert 0 < retry_delay_s(raised.value) <= 30
        await channel.close()

        waits = []

        def told(error, wait_s):
            waits.append(wait_s)
            system.engine.release()

        events = when_admitted(
            lambda: system.client.generate(request("second")), patience_s=PATIENCE_S, told=told
        )
        assert terminal(await collect(events)).finish_reason is FinishReason.LENGTH
        assert waits
        assert terminal(await first).finish_reason is FinishReason.LENGTH


def retry_delay_s(error) -> float:
    """What the standard detail says, which any gRPC client can read."""
    (packed,) = [value for key, value in error.trailing_metadata() if key == DETAILS_KEY]
    info = error_details_pb2.RetryInfo()
    (delay,) = [
        info.retry_delay.ToMilliseconds()
        for detail in status_pb2.Status.FromString(packed).details
        if detail.Unpack(info)
    ]
    return delay / 1000


async def test_one_request_at_a_time_by_settings(tmp_path, server):
    async with running_system("redis", tmp_path, server.url, tenant_requests=1) as system:
        system.engine.hold()
        first = asyncio.create_task(collect(system.client.generate(request("first"))))
        await system.engine.in_pass()
        with pytest.raises(QuotaExceeded, match="tenant default"):
            await collect(system.client.generate(request("second")))
        info = await system.client.info()
        assert (info.tenant_requests, info.tenant_limit) == (1, 1)
        system.engine.release()
        await first


async def test_a_lost_answer_is_not_a_refusal(tmp_path, server):
    """The id is queued already: sent again at a full queue, the call finds its request."""
    limits = {"queue_limit": 1, "concurrency": 1}
    async with running_system("redis", tmp_path, server.url, **limits) as system:
        system.engine.hold()
        keyed = request("", idempotency_key="once")
        first = asyncio.create_task(collect(system.client.generate(keyed)))
        await system.engine.in_pass()
        again = asyncio.create_task(collect(system.client.generate(keyed)))
        with pytest.raises(Overloaded):
            await collect(system.client.generate(request("", idempotency_key="other")))
        system.engine.release()
        assert await first == await again


@asynccontextmanager
async def cli(*arguments, env):
    """A `hola` command as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from hola_cli.main import main; main()",
        *arguments,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run_cli(*arguments, env):
    async with cli(*arguments, env=env) as process:
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


async def test_the_command_shows_the_wait_and_waits_when_asked(tmp_path, server):
    env = {**os.environ, "HOLA_ROUTER": f"unix://{tmp_path}/router.sock"}
    ask = ("generate", "--raw", "--json", "-n", "5", PROMPT)
    keyed = (*ask, "--retry", "50", "--idempotency-key", "k")
    limits = {"queue_limit": 1, "concurrency": 1}
    async with running_system("redis", tmp_path, server.url, **limits) as system:
        system.engine.hold()
        wanted = request("first", sampling=SamplingParams(max_tokens=5))
        first = asyncio.create_task(collect(system.client.generate(wanted)))
        await system.engine.in_pass()
        code, out, err = await run_cli(*ask, env=env)
        assert (code, out) == (5, "")
        assert "the limit is 1 (come back in" in err
        async with cli(*keyed, env=env) as process:
            told = (await process.stderr.readline()).decode()
            assert "trying again in" in told
            system.engine.release()
            out = (await process.communicate())[0].decode()
            assert process.returncode == 0
        events = [json.loads(line)["event"] for line in out.splitlines()]
        assert (events[0], events[-1]) == ("started", "finished")
        await first
        code, again, err = await run_cli(*keyed, env=env)
        assert (code, again) == (0, out), "the same stream again"


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf"])
async def test_a_wait_that_is_none_is_refused(seconds):
    code, _, err = await run_cli("generate", "--retry", seconds, "x", env=dict(os.environ))
    assert code == 2
    assert "--retry" in err
