"""A router client on connections that break: every token once, and an end in any case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hola.config import Settings
from hola.convert import error_of, event_to_pb, failure_of, response_to_pb, router_info_to_pb
from hola.errors import (
    DeadlineExceeded,
    DuplicateRequest,
    HolaError,
    InvalidRequest,
    Overloaded,
    ServiceUnavailable,
    UnknownRequest,
)
from hola.rpc.router_client import RouterClient
from hola.rpc.server import RpcServer, RpcService
from hola.telemetry import Metrics
from hola.types import (
    Exactness,
    Failure,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    ModelInfo,
    Outcome,
    RetrievalPlan,
    RouterInfo,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)
from hola.v1 import router_pb2, router_pb2_grpc

INFO = RouterInfo(
    version="1",
    models=(ModelInfo(name="m", tiers=("lookup", "target"), context_length=512),),
    default_model="m",
)


def story(request_id: str, length: int) -> list[GenerateEvent]:
    """A whole stream: tokens come two at a time."""
    started = Started(
        request_id=request_id,
        model="m",
        tiers=("target",),
        fingerprint="f",
        exactness=Exactness.EXACT,
        prompt_tokens=1,
    )
    tokens = [
        Tokens(
            position=position,
            tokens=tuple(
                TokenEvent(token=token, text=str(token), tier=0, outcome=Outcome.PLAIN)
                for token in range(position, min(position + 2, length))
            ),
        )
        for position in range(0, length, 2)
    ]
    end = Summary(finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=length)
    return [started, *tokens, end]


@dataclass
class FakeRouter(router_pb2_grpc.RouterServiceServicer):
    """Tells one story per request; `breaks` says after how many events each connection dies."""

    length: int = 9
    breaks: list[int] = field(default_factory=list)
    refuse: HolaError | None = None
    calls: list[tuple[str, int]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    stories: dict[str, list[GenerateEvent]] = field(default_factory=dict)
    hang_after: int | None = None
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.calls.append(("Generate", -1))
        if self.refuse is not None:
            raise self.refuse
        if request.request_id in self.known:
            raise DuplicateRequest("the id is taken")
        self.known.add(request.request_id)
        async for event in self._tell(request.request_id, 0):
            yield response_to_pb(event, RetrievalPlan.NONE)

    async def Resume(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.calls.append(("Resume", request.position))
        if request.request_id not in self.known:
            raise UnknownRequest("no such request")
        async for event in self._tell(request.request_id, request.position):
            yield router_pb2.RouterServiceResumeResponse(event=event_to_pb(event))

    async def Cancel(self, request: Any, context: Any) -> Any:
        if request.request_id not in self.known:
            raise UnknownRequest("no such request")
        return router_pb2.RouterServiceCancelResponse(cancelled=True)

    async def Info(self, request: Any, context: Any) -> Any:
        return router_info_to_pb(INFO)

    async def _tell(self, request_id: str, position: int) -> AsyncIterator[GenerateEvent]:
        events = self.stories.get(request_id) or story(request_id, self.length)
        left = self.breaks.pop(0) if self.breaks else len(events)
        for number, event in enumerate(events):
            # A sloppy router: sends the pair of tokens again in which the position falls.
            if isinstance(event, Tokens) and event.position + len(event.tokens) <= position:
                continue
            if left == 0:
                raise ServiceUnavailable("the router went away")
            if number == self.hang_after:
                await self._hang()
            left -= 1
            yield event
            if isinstance(event, Failure):
                raise error_of(event)

    async def _hang(self) -> None:
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


Start = Callable[..., Awaitable[RouterClient]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Serve a fake router on a unix socket; gives a client."""
    async with AsyncExitStack() as stack:

        async def begin(router: FakeRouter, **settings: Any) -> RouterClient:
            listen = f"unix://{tmp_path}/router.sock"
            chosen = Settings(**{"drain_s": 0.0, "reattach_s": 5.0, **settings})
            service = RpcService(
                router_pb2.DESCRIPTOR, router_pb2_grpc.add_RouterServiceServicer_to_server, router
            )
            server = RpcServer(listen, [service], chosen, Metrics())
            await server.start()
            stack.push_async_callback(server.stop)
            client = RouterClient(server.address, chosen)
            stack.push_async_callback(client.close)
            return client

        yield begin


async def collect(events: AsyncIterator[GenerateEvent]) -> tuple[list[int], list[str]]:
    """Token ids, and the kinds of all events."""
    tokens: list[int] = []
    kinds: list[str] = []
    async with asyncio.timeout(20):
        async for event in events:
            kinds.append(type(event).__name__)
            if isinstance(event, Tokens):
                assert event.position == len(tokens)
                tokens += [token.token for token in event.tokens]
    return tokens, kinds


async def test_an_unbroken_stream(start: Start) -> None:
    router = FakeRouter()
    client = await start(router)
    tokens, kinds = await collect(client.generate(GenerateRequest(prompt="hi")))
    assert tokens == list(range(9))
    assert kinds == ["Started", *["Tokens"] * 5, "Summary"]
    assert router.calls == [("Generate", -1)]


@pytest.mark.parametrize(
    ("breaks", "calls"),
    [
        ([0], [("Generate", -1), ("Generate", -1), ("Resume", 0)]),
        ([1], [("Generate", -1), ("Resume", 0)]),
        ([3], [("Generate", -1), ("Resume", 4)]),
        ([6], [("Generate", -1), ("Resume", 9)]),
        ([2, 1, 0, 2], [("Generate", -1), *[("Resume", 2)] * 3, ("Resume", 4)]),
    ],
)
async def test_a_broken_stream_goes_on_where_it_was(
    start: Start, breaks: list[int], calls: list[tuple[str, int]]
) -> None:
    router = FakeRouter(breaks=list(breaks))
    client = await start(router)
    tokens, kinds = await collect(client.generate(GenerateRequest(prompt="hi")))
    assert tokens == list(range(9))
    assert kinds[0] == "Started"
    assert kinds[-1] == "Summary"
    assert (kinds.count("Started"), kinds.count("Summary")) == (1, 1)
    assert router.calls == calls


async def test_a_position_inside_an_event(start: Start) -> None:
    router = FakeRouter()
    client = await start(router)
    await collect(client.generate(GenerateRequest(prompt="hi", request_id="r")))
    tokens = []
    async for event in client.resume("r", 5):
        if isinstance(event, Tokens):
            tokens += [token.token for token in event.tokens]
    assert tokens == [5, 6, 7, 8]


async def test_a_router_that_is_restarted(tmp_path: Path) -> None:
    """The first router hangs in mid-stream and dies; the second knows the request."""
    settings = Settings(drain_s=0.0, reattach_s=20)
    first, second = FakeRouter(hang_after=3), FakeRouter(known={"r"})
    listen = f"unix://{tmp_path}/router.sock"
    add = router_pb2_grpc.add_RouterServiceServicer_to_server
    server = RpcServer(listen, [RpcService(router_pb2.DESCRIPTOR, add, first)], settings, Metrics())
    await server.start()
    client = RouterClient(listen, settings)
    tokens: list[int] = []
    async with asyncio.timeout(20):
        async for event in client.generate(GenerateRequest(prompt="hi", request_id="r")):
            if isinstance(event, Tokens):
                tokens += [token.token for token in event.tokens]
            if len(tokens) == 4 and not second.calls:
                await server.stop()
                server = RpcServer(
                    listen, [RpcService(router_pb2.DESCRIPTOR, add, second)], settings, Metrics()
                )
                await server.start()
    assert tokens == list(range(9))
    assert second.calls == [("Resume", 4)]
    await client.close()
    await server.stop()


async def test_a_router_that_stays_away_is_an_error_in_the_end(start: Start) -> None:
    router = FakeRouter(breaks=[2] + [0] * 100)
    client = await start(router, reattach_s=0.4)
    events = client.generate(GenerateRequest(prompt="hi"))
    assert isinstance(await anext(events), Started)
    assert isinstance(await anext(events), Tokens)
    with pytest.raises(ServiceUnavailable):
        await anext(events)
    assert len(router.calls) > 2


async def test_nobody_there_is_an_error_that_names_the_address(tmp_path: Path) -> None:
    settings = Settings(connect_timeout_s=0.1, reattach_s=0.2)
    client = RouterClient(f"unix://{tmp_path}/nothing.sock", settings)
    with pytest.raises(ServiceUnavailable, match=r"nothing\.sock"):
        await collect(client.generate(GenerateRequest(prompt="hi")))
    with pytest.raises(ServiceUnavailable):
        await client.info()
    await client.close()


@pytest.mark.parametrize("error", [InvalidRequest("no", field="prompt"), Overloaded("busy")])
async def test_a_refusal_is_not_tried_again(start: Start, error: HolaError) -> None:
    router = FakeRouter(refuse=error)
    client = await start(router)
    with pytest.raises(type(error), match=error.message):
        await collect(client.generate(GenerateRequest(prompt="hi")))
    assert router.calls == [("Generate", -1)]


async def test_an_id_somebody_else_uses_is_refused(start: Start) -> None:
    router = FakeRouter(known={"r"})
    client = await start(router)
    with pytest.raises(DuplicateRequest):
        await collect(client.generate(GenerateRequest(prompt="hi", request_id="r")))


async def test_a_failed_request_ends_with_its_failure(start: Start) -> None:
    failure = failure_of(Overloaded("no memory left", retry_after_ms=5))
    router = FakeRouter(stories={"r": [*story("r", 4)[:2], failure]})
    client = await start(router)
    events = [event async for event in client.generate(GenerateRequest(prompt="x", request_id="r"))]
    assert events[-1] == failure
    assert len(router.calls) == 1


async def test_resuming_an_unknown_request(start: Start) -> None:
    client = await start(FakeRouter())
    with pytest.raises(UnknownRequest):
        await collect(client.resume("nothing"))


async def test_leaving_the_stream_detaches(start: Start) -> None:
    router = FakeRouter(hang_after=2)
    client = await start(router)
    events = client.generate(GenerateRequest(prompt="hi"))
    await anext(events)
    async with asyncio.timeout(10):
        # A cancellation that comes before the router hangs would find it elsewhere, unseen.
        await router.hanging.wait()
        await events.aclose()
        await router.cancelled.wait()


async def test_the_deadline_covers_all_connections(start: Start) -> None:
    router = FakeRouter(breaks=[2], hang_after=2)
    client = await start(router)
    with pytest.raises(DeadlineExceeded):
        async for _ in client.generate(GenerateRequest(prompt="hi"), timeout_s=2):
            pass
    async with asyncio.timeout(10):
        await router.cancelled.wait()


async def test_cancel_and_info(start: Start) -> None:
    client = await start(FakeRouter(known={"r"}))
    assert await client.cancel("r") is True
    with pytest.raises(UnknownRequest):
        await client.cancel("nothing")
    assert await client.info() == INFO
    await client.close()
    await client.close()
