"""Health is open to everybody and opens nothing else; reflection is closed with the door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from hola.config import Settings
from hola.errors import ConfigError
from hola.rpc.channel import open_channel
from hola.rpc.server import RpcServer
from hola.security.api_keys import new_key
from hola.telemetry import Metrics
from tests.support.front_door import front_door, keys_file, shown, who
from tests.support.rpc import KINDS, KindsRig, running_kinds
from tests.support.security import Pki

ACME = new_key("acme")


async def test_health_is_open_and_reflection_is_not(tmp_path: Path) -> None:
    async with front_door(api_keys=keys_file(tmp_path, ACME)) as rig:
        stub = health_pb2_grpc.HealthStub(rig.channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert await reflected(rig, **shown(ACME.text)) is grpc.StatusCode.UNIMPLEMENTED
    async with front_door(api_keys=keys_file(tmp_path, ACME), reflection=True) as rig:
        assert await reflected(rig) is grpc.StatusCode.UNAUTHENTICATED
        assert await reflected(rig, **shown(ACME.text)) is grpc.StatusCode.OK
    async with front_door() as rig:
        assert await reflected(rig) is grpc.StatusCode.OK


async def test_the_health_port_answers_health_only(pki: Pki) -> None:
    client = Settings(**pki.settings("drafter"))
    options = pki.settings("verifier") | {"health_listen": "0.0.0.0:0"}
    async with running_kinds(who, client=client, **options) as rig:
        address = f"127.0.0.1:{rig.server.health_port}"
        channel = open_channel(address, client, plaintext=True)
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "hola.v1.CompressorService"):
            request = health_pb2.HealthCheckRequest(service=service)
            answer = await stub.Check(request, timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        side = KindsRig(rig.server, rig.servicer, channel, rig.metrics)
        for kind in KINDS:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await side.call(kind, timeout=20)
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await reflected(side) is grpc.StatusCode.UNIMPLEMENTED
        await rig.server.leave()
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        await channel.close()


async def test_a_taken_health_port_is_a_clear_error() -> None:
    async with running_kinds(health_listen="127.0.0.1:0") as rig:
        taken = f"127.0.0.1:{rig.server.health_port}"
        server = RpcServer("127.0.0.1:0", [], Settings(health_listen=taken), Metrics())
        with pytest.raises(ConfigError, match="cannot listen on"):
            await server.start()
        await server.stop()


def test_a_malformed_health_address_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="not an address"):
        RpcServer("127.0.0.1:0", [], Settings(health_listen="7080"), Metrics())


async def reflected(rig: KindsRig, **options: Any) -> grpc.StatusCode:
    """How a question about the services ends."""
    stub = reflection_pb2_grpc.ServerReflectionStub(rig.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    try:
        answers = [
            a async for a in stub.ServerReflectionInfo(iter([request]), timeout=20, **options)
        ]
    except grpc.aio.AioRpcError as error:
        return error.code()
    assert len(answers) == 1
    return grpc.StatusCode.OK
