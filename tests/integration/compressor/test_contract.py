"""The compressor answers that its work is not there yet, and is healthy while it says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hola.config import Settings
from hola.errors import NotImplementedYet
from hola.rpc.channel import open_channel
from hola.rpc.errors import error_from_call
from hola.v1 import compressor_pb2, compressor_pb2_grpc
from hola_compressor.app import build
from tests.support.process import running_service


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    settings = Settings(listen=f"unix://{tmp_path}/c.sock", drain_s=0.0)
    app = build(settings)
    await app.start()
    channel = open_channel(app.address, settings)
    yield channel
    await channel.close()
    await app.stop()


async def _submit(stub: Any) -> None:
    await stub.SubmitJob(compressor_pb2.SubmitJobRequest(model="demo", budget_bytes=1))


async def _watch(stub: Any) -> None:
    async for _ in stub.WatchJob(compressor_pb2.WatchJobRequest(job_id="x")):
        pass


async def _list(stub: Any) -> None:
    await stub.ListArtifacts(compressor_pb2.ListArtifactsRequest())


@pytest.mark.parametrize("call", [_submit, _watch, _list])
async def test_every_call_is_unimplemented_with_a_reason(
    channel: grpc.aio.Channel, call: Any
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(compressor_pb2_grpc.CompressorServiceStub(channel))
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    error = error_from_call(raised.value)
    assert type(error) is NotImplementedYet
    assert "compression is not in HOLA" in error.message
    assert error.details["call"] in error.message


@pytest.mark.parametrize("service", ["", "hola.v1.CompressorService"])
async def test_it_is_healthy(channel: grpc.aio.Channel, service: str) -> None:
    answer = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=service)
    )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_it_runs_and_stops_as_a_process(tmp_path: Path) -> None:
    listen = f"unix://{tmp_path}/c.sock"
    async with running_service("hola_compressor", HOLA_LISTEN=listen) as process:
        serving = await process.event("serving")
        assert serving["services"] == ["hola.v1.CompressorService"]
        process.signal()
        assert await process.exit_code() == 0
