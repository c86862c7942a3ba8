"""A server with one handler of each RPC kind, to see what the server around them does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from hola.config import Settings
from hola.rpc.channel import open_channel
from hola.rpc.server import RpcServer, RpcService
from hola.telemetry import Metrics
from hola.v1 import compressor_pb2, router_pb2

# Any message with a text serves as request and response.
Message = compressor_pb2.SubmitJobResponse
SERVICE = "hola.test.Kinds"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
_MAKERS: dict[str, Callable[..., Any]] = {
    "unary_unary": grpc.unary_unary_rpc_method_handler,
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_unary": grpc.stream_unary_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
}

Act = Callable[[str], Awaitable[str]]


@dataclass
class KindsServicer:
    """Answers every request with `act(text)`."""

    act: Act
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def unary_unary(self, request: Any, context: Any) -> Any:
        return Message(job_id=await self._watched(request.job_id))

    async def unary_stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(2):
            yield Message(job_id=await self._watched(request.job_id))

    async def stream_unary(self, requests: AsyncIterator[Any], context: Any) -> Any:
        texts = [await self._watched(request.job_id) async for request in requests]
        return Message(job_id=",".join(texts))

    async def stream_stream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield Message(job_id=await self._watched(request.job_id))

    async def _watched(self, text: str) -> str:
        try:
            return await self.act(text)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def kinds_service(
    servicer: KindsServicer, descriptor: Any = compressor_pb2.DESCRIPTOR
) -> RpcService:
    """The servicer as something to serve; health knows it under the descriptor's name."""

    def add(servicer: KindsServicer, server: grpc.aio.Server) -> None:
        handlers = {
            kind: make(
                getattr(servicer, kind),
                request_deserializer=Message.FromString,
                response_serializer=Message.SerializeToString,
            )
            for kind, make in _MAKERS.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    return RpcService(descriptor, add, servicer)


@dataclass(frozen=True)
class KindsRig:
    """A running server and a channel to it."""

    server: RpcServer
    servicer: KindsServicer
    channel: grpc.aio.Channel
    metrics: Metrics

    def start_call(self, kind: str, *texts: str, raw: bytes | None = None, **options: Any) -> Any:
        """As the function of this name, on the rig's channel."""
        return start_call(self.channel, kind, *texts, raw=raw, **options)

    async def call(self, kind: str, *texts: str, **options: Any) -> list[str]:
        """A whole call: the response texts."""
        return await read_all(self.start_call(kind, *texts, **options))


def start_call(
    channel: grpc.aio.Channel,
    kind: str,
    *texts: str,
    raw: bytes | None = None,
    silent: bool = False,
    **options: Any,
) -> Any:
    """Begin a call with these request texts, or with raw bytes; a silent stream sends nothing."""
    requests = [Message(job_id=text).SerializeToString() for text in texts or ("x",)]
    requests = requests if raw is None else [raw]
    method = getattr(channel, kind)(f"/{SERVICE}/{kind}", response_deserializer=Message.FromString)
    if silent:
        return method(**options)
    return method(iter(requests) if kind.startswith("stream") else requests[0], **options)


async def read_all(call: Any) -> list[str]:
    """The response texts of a call."""
    if isinstance(call, grpc.aio.UnaryStreamCall | grpc.aio.StreamStreamCall):
        return [answer.job_id async for answer in call]
    return [(await call).job_id]


async def echo(text: str) -> str:
    return text


@asynccontextmanager
async def running_kinds(
    act: Act = echo,
    listen: str = "127.0.0.1:0",
    *,
    front_door: bool = False,
    client: Settings | None = None,
    **settings: Any,
) -> AsyncIterator[KindsRig]:
    """Serve the four kinds, under the router's name with `front_door`; `client` calls them."""
    chosen = Settings(**{"listen": listen, "drain_s": 0.0, **settings})
    servicer, metrics = KindsServicer(act), Metrics()
    descriptor = router_pb2.DESCRIPTOR if front_door else compressor_pb2.DESCRIPTOR
    server = RpcServer(listen, [kinds_service(servicer, descriptor)], chosen, metrics)
    await server.start()
    channel = open_channel(server.address, client or Settings(), shows_token=client is not None)
    try:
        yield KindsRig(server=server, servicer=servicer, channel=channel, metrics=metrics)
    finally:
        await channel.close()
        await server.stop()
