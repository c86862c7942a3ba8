"""A router's client that survives broken connections: it re-attaches by position."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc.aio

from hola import genai, tracing
from hola.config import Settings
from hola.convert import event_from_pb, router_info_from_pb
from hola.errors import HolaError, ServiceUnavailable
from hola.idempotency import request_id_of_key
from hola.rpc.channel import call_metadata, open_channel, parse_address, wait_ready
from hola.rpc.errors import error_from_call
from hola.rpc.reattach import Attachment, Patience
from hola.rpc.received import Received
from hola.telemetry import get_logger
from hola.types import Failure, GenerateEvent, GenerateRequest, RouterInfo, Summary
from hola.v1 import router_pb2, router_pb2_grpc

log = get_logger(__name__)

_SERVICE = router_pb2.DESCRIPTOR.services_by_name["RouterService"].full_name


class RouterClient:
    """Calls of a router on one channel to `address`. Use from one event loop."""

    def __init__(self, address: str, settings: Settings) -> None:
        """Connects when first used. Raises ConfigError on a malformed address."""
        parse_address(address)
        self._address = address
        self._settings = settings
        self._channel: grpc.aio.Channel | None = None

    async def generate(
        self, request: GenerateRequest, *, timeout_s: float | None = None
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Send a request and yield its events, Summary or Failure last.

        A broken connection is taken up again from the last position; no token comes twice or is
        left out, unless a Correction comes before. Closing the iterator detaches: the router
        cancels the request after its grace.
        A request without id gets an idempotency key, so that a call whose answer was lost can be
        made again; with a key of its own, calls of other times and places give the same stream.
        Raises ServiceUnavailable when the router stays away longer than HOLA_REATTACH_S, the error
        the request was refused with, and DeadlineExceeded after `timeout_s` seconds.
        """
        request = _repeatable(request)
        attachment = Attachment(request_id=request.request_id, request=request)
        with tracing.held(*_span_of(request), kind="client") as span:
            async with aclosing(self._attached(attachment, timeout_s, span)) as events:
                async for event in events:
                    if isinstance(event, Summary | Failure):
                        span.set(genai.of_end(event))
                    yield event

    async def resume(
        self, request_id: str, position: int = 0, *, timeout_s: float | None = None
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Attach to a request from output `position` on; else like `generate`.

        Raises UnknownRequest when there is none (any more).
        """
        attachment = Attachment(request_id=request_id, received=Received(settled=position))
        asked = {"gen_ai.response.id": request_id, "hola.position": position}
        with tracing.held("resume", asked, kind="client") as span:
            async with aclosing(self._attached(attachment, timeout_s, span)) as events:
                async for event in events:
                    yield event

    async def cancel(self, request_id: str) -> bool:
        """End a request; False when it had ended. Raises UnknownRequest, ServiceUnavailable."""
        message = router_pb2.RouterServiceCancelRequest(request_id=request_id)
        answer = await self._unary("Cancel", message)
        return bool(answer.cancelled)

    async def info(self) -> RouterInfo:
        """Models and limits. Raises ServiceUnavailable."""
        return router_info_from_pb(await self._unary("Info", router_pb2.RouterServiceInfoRequest()))

    async def close(self) -> None:
        """Idempotent."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def _attached(
        self, attachment: Attachment, timeout_s: float | None, span: tracing.Span
    ) -> AsyncGenerator[GenerateEvent, None]:
        patience = Patience(self._settings.reattach_s)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not attachment.ended:
            try:
                async with aclosing(self._stream(attachment, deadline, span)) as events:
                    async for event in events:
                        patience.reset()
                        yield event
            except HolaError as error:
                if not attachment.may_retry(error):
                    raise
                span.event("reattach")
                await patience.wait(error)
                log.info(
                    "reattaching",
                    request_id=attachment.request_id,
                    position=attachment.position,
                    reason=error.reason,
                )

    async def _stream(
        self, attachment: Attachment, deadline: float | None, span: tracing.Span
    ) -> AsyncGenerator[GenerateEvent, None]:
        """The new events of one connection. Raises ServiceUnavailable when it breaks."""
        stub = router_pb2_grpc.RouterServiceStub(await self._connected())
        rest_s = None if deadline is None else max(0.001, deadline - time.monotonic())
        metadata = call_metadata(attachment.request_id, span)
        call = attachment.call(stub)(timeout=rest_s, metadata=metadata)
        try:
            async for answer in call:
                for event in attachment.fresh(event_from_pb(answer.event)):
                    yield event
                if attachment.ended:
                    return
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error, self._unavailable) from None
        finally:
            call.cancel()
        raise self._unavailable("the stream ended before the request did")

    async def _unary(self, method: str, message: Any) -> Any:
        stub = router_pb2_grpc.RouterServiceStub(await self._connected())
        try:
            return await getattr(stub, method)(message, timeout=self._settings.rpc_timeout_s)
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error, self._unavailable) from None

    async def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = open_channel(
                self._address,
                self._settings,
                service=_SERVICE,
                idempotent=("Info", "Cancel"),
                shows_token=True,
            )
        timeout_s = self._settings.connect_timeout_s
        missing = self._unavailable(f"no connection within {timeout_s:g} s")
        await wait_ready(self._channel, timeout_s, missing, final=True)
        return self._channel

    def _unavailable(self, why: str) -> HolaError:
        return ServiceUnavailable(f"router {self._address}: {why}", address=self._address)


def _span_of(request: GenerateRequest) -> tuple[str, dict[str, Any]]:
    """Name and attributes of the client's span."""
    is_chat = bool(request.messages)
    name = f"{genai.operation(is_chat=is_chat)} {request.model}".strip()
    given = request.request_id
    return name, genai.of_request(
        request.model, request.sampling, is_chat=is_chat, request_id=given
    )


def _repeatable(request: GenerateRequest) -> GenerateRequest:
    """The request with an id and, unless the caller chose the id, the key that it comes from.

    Both are sent: a router that does not know keys yet goes by the id.
    """
    if request.request_id:
        return request
    key = request.idempotency_key or uuid.uuid4().hex
    return replace(request, request_id=request_id_of_key(key), idempotency_key=key)
