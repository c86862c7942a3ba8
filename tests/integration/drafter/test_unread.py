"""A client that calls a drafter directly and does not read loses its stream and its session."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest

from hola.convert import job_to_pb
from hola.errors import ServiceUnavailable
from hola.rpc.errors import error_from_call
from hola.types import GenerateJob, SamplingParams
from hola.v1 import drafter_pb2, drafter_pb2_grpc
from tests.support.system import MODEL, PROMPT, collect, request, running_system, terminal
from tests.support.verifier import eventually

pytestmark = pytest.mark.redis
STINGY = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]


async def test_an_unread_direct_stream_frees_the_verifiers_session(tmp_path, start_redis):
    url = start_redis().url
    async with running_system("redis", tmp_path, url, unread_s=0.5) as system:
        channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/drafter.sock", options=STINGY)
        job = GenerateJob(
            request_id="unread",
            model=MODEL,
            prompt=PROMPT,
            sampling=SamplingParams(max_tokens=3000, logprobs=True),
        )
        message = drafter_pb2.DrafterServiceGenerateRequest(job=job_to_pb(job))
        unread = drafter_pb2_grpc.DrafterServiceStub(channel).Generate(message)
        await eventually(lambda: system.engine.opened_sessions == 1, "it has begun", 30)
        await eventually(lambda: system.sessions_left == 0, "the session was freed", 30)
        assert terminal(await collect(system.client.generate(request())))
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            async with asyncio.timeout(30):
                _ = [event async for event in unread]
        assert isinstance(error_from_call(cut.value), ServiceUnavailable)
        assert "unread" in cut.value.details()
        await channel.close()
