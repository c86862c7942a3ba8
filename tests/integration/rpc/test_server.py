"""Health, reflection, addresses and the order of a stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from hola.config import Settings
from hola.errors import ConfigError, ServiceUnavailable
from hola.rpc.errors import error_from_call
from hola.rpc.server import RpcServer
from hola.telemetry import Metrics
from tests.support.rpc import running_kinds
from tests.support.verifier import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
COMPRESSOR = "hola.v1.CompressorService"


async def health(channel: grpc.aio.Channel, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    return int(answer.status)


async def test_health_knows_the_server_and_each_service() -> None:
    async with running_kinds() as rig:
        assert await health(rig.channel, "") == SERVING
        assert await health(rig.channel, COMPRESSOR) == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await health(rig.channel, "hola.v1.Nothing")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services() -> None:
    async with running_kinds() as rig:
        stub = reflection_pb2_grpc.ServerReflectionStub(rig.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {COMPRESSOR, "grpc.health.v1.Health"} <= names


async def test_stop_says_so_then_lets_running_calls_finish() -> None:
    started, may_finish = asyncio.Event(), asyncio.Event()

    async def slow(text: str) -> str:
        started.set()
        await may_finish.wait()
        return text

    async with running_kinds(slow) as rig:
        states: list[int] = []

        async def watch() -> None:
            stub = health_pb2_grpc.HealthStub(rig.channel)
            async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=COMPRESSOR)):
                states.append(answer.status)

        watching = asyncio.create_task(watch())
        await eventually(lambda: states == [SERVING], "the watch has begun")
        running = asyncio.create_task(rig.call("unary_unary", "late"))
        await started.wait()
        stopping = asyncio.create_task(rig.server.stop(20))
        await eventually(lambda: states == [SERVING, NOT_SERVING], "health says NOT_SERVING")
        assert not running.done()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rig.call("unary_unary", "too late", timeout=5)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        may_finish.set()
        async with asyncio.timeout(10):
            assert await running == ["late"]
            watching.cancel()
            await stopping


async def test_calls_that_outlast_the_grace_are_cut() -> None:
    started = asyncio.Event()

    async def endless(text: str) -> str:
        started.set()
        await asyncio.Event().wait()
        return text

    async with running_kinds(endless) as rig:
        running = asyncio.create_task(rig.call("stream_stream", "x"))
        await started.wait()
        async with asyncio.timeout(10):
            await rig.server.stop(0.05)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await running
    assert type(error_from_call(raised.value)) is ServiceUnavailable


async def test_stop_can_be_called_twice_and_before_start() -> None:
    server = RpcServer("127.0.0.1:0", [], Settings(), Metrics())
    await server.stop()
    async with running_kinds() as rig:
        await rig.server.stop()
        await rig.server.stop()


async def test_a_unix_socket_serves(tmp_path: Path) -> None:
    listen = f"unix://{tmp_path}/s"
    async with running_kinds(listen=listen) as rig:
        assert rig.server.address == listen
        assert await rig.call("unary_unary", "x") == ["x"]


async def test_a_taken_port_is_a_clear_error() -> None:
    async with running_kinds() as rig:
        listen = rig.server.address.removeprefix("grpc://")
        server = RpcServer(listen, [], Settings(), Metrics())
        with pytest.raises(ConfigError, match="cannot listen on"):
            await server.start()


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.7:7072", "verifier:7072"])
def test_plaintext_for_other_machines_needs_a_decision(listen: str) -> None:
    with pytest.raises(ConfigError, match="HOLA_INSECURE=1") as raised:
        RpcServer(listen, [], Settings(), Metrics())
    assert raised.value.details["variable"] == "HOLA_LISTEN"
    RpcServer(listen, [], Settings(insecure=True), Metrics())
