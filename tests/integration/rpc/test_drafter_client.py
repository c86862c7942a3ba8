"""A drafter called directly: its events, its errors, and that leaving stops its work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hola.config import Settings
from hola.convert import drafter_info_to_pb, error_of, event_to_pb, failure_of, job_from_pb
from hola.errors import ServiceUnavailable, UnknownModel
from hola.rpc.drafter_client import GrpcDrafter
from hola.rpc.server import RpcServer, RpcService
from hola.telemetry import Metrics
from hola.types import (
    DrafterInfo,
    Exactness,
    Failure,
    FinishReason,
    GenerateEvent,
    GenerateJob,
    Started,
    Summary,
)
from hola.v1 import drafter_pb2, drafter_pb2_grpc

JOB = GenerateJob(request_id="r1", model="m", prompt="hi")
STARTED = Started(
    request_id="r1",
    model="m",
    tiers=("target",),
    fingerprint="",
    exactness=Exactness.EXACT,
    prompt_tokens=1,
)
SUMMARY = Summary(finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=0)
INFO = DrafterInfo(
    version="1", model="m", tiers=("lookup",), tokenizer_fingerprint="f", verifier="local:"
)


@dataclass
class FakeDrafter(drafter_pb2_grpc.DrafterServiceServicer):
    """Sends `events`; then hangs, or ends."""

    events: list[GenerateEvent]
    hang: bool = False
    jobs: list[GenerateJob] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.jobs.append(job_from_pb(request.job))
        for event in self.events:
            yield drafter_pb2.DrafterServiceGenerateResponse(event=event_to_pb(event))
            if isinstance(event, Failure):
                raise error_of(event)
        if self.hang:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

    async def Info(self, request: Any, context: Any) -> Any:
        return drafter_info_to_pb(INFO)


Start = Callable[[FakeDrafter], Awaitable[tuple[GrpcDrafter, RpcServer]]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def begin(drafter: FakeDrafter) -> tuple[GrpcDrafter, RpcServer]:
            settings = Settings(drain_s=0.0, connect_timeout_s=0.5)
            add = drafter_pb2_grpc.add_DrafterServiceServicer_to_server
            server = RpcServer(
                f"unix://{tmp_path}/d.sock",
                [RpcService(drafter_pb2.DESCRIPTOR, add, drafter)],
                settings,
                Metrics(),
            )
            await server.start()
            stack.push_async_callback(server.stop)
            client = GrpcDrafter(server.address, settings)
            stack.push_async_callback(client.close)
            return client, server

        yield begin


async def test_events_come_through(start: Start) -> None:
    drafter = FakeDrafter([STARTED, SUMMARY])
    client, _ = await start(drafter)
    assert [event async for event in client.generate(JOB)] == [STARTED, SUMMARY]
    assert drafter.jobs == [JOB]


async def test_a_failure_is_the_last_event(start: Start) -> None:
    failure = failure_of(UnknownModel("no model m", model="m"))
    client, _ = await start(FakeDrafter([failure]))
    assert [event async for event in client.generate(JOB)] == [failure]


async def test_a_stream_without_an_end_is_an_error(start: Start) -> None:
    client, _ = await start(FakeDrafter([STARTED]))
    with pytest.raises(ServiceUnavailable, match="ended before"):
        async for _ in client.generate(JOB):
            pass


async def test_leaving_the_stream_stops_the_work(start: Start) -> None:
    drafter = FakeDrafter([STARTED], hang=True)
    client, _ = await start(drafter)
    events = client.generate(JOB)
    assert await anext(events) == STARTED
    await events.aclose()
    async with asyncio.timeout(10):
        await drafter.cancelled.wait()


async def test_a_drafter_that_goes_away(start: Start) -> None:
    client, server = await start(FakeDrafter([STARTED], hang=True))
    events = client.generate(JOB)
    assert await anext(events) == STARTED
    await server.stop()
    with pytest.raises(ServiceUnavailable):
        await anext(events)
    with pytest.raises(ServiceUnavailable, match="no connection"):
        await client.info()


async def test_info(start: Start) -> None:
    client, _ = await start(FakeDrafter([]))
    assert await client.info() == INFO
    await client.close()
    await client.close()
