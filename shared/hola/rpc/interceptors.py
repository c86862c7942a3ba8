"""One server interceptor for all four RPC kinds: callers, errors to statuses, ids, metrics."""

from __future__ import annotations

import asyncio
import inspect
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from hola.errors import HolaError, InvalidRequest
from hola.rpc.channel import REQUEST_ID_KEY
from hola.rpc.errors import DETAILS_KEY, MAX_MESSAGE_CHARS, code_of, status_details
from hola.rpc.gate import Gate
from hola.rpc.unread import status_taken, write_within
from hola.telemetry import Metrics, bind_ids, current_id, get_logger

log = get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
# The library's own class cannot be subscripted at run time.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_KINDS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler.

    A HolaError becomes its status code with rich details; bytes that are no message become
    INVALID_ARGUMENT; any other exception becomes INTERNAL with nothing of its text, and is logged
    with the request id. The caller's `x-request-id` (or a new one) is bound to the logs and sent
    back in the trailing metadata. `gate` says who calls before the handler runs.
    """

    def __init__(self, metrics: Metrics, gate: Gate, *, unread_s: float) -> None:
        """A client that leaves a stream unread for `unread_s` seconds loses it."""
        self._metrics = metrics
        self._gate = gate
        self._unread_s = unread_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Called by grpc once per call, before the handler."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        kind, make = _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
        behaviour = getattr(handler, kind)
        call = _Call(handler_call_details.method, self._metrics, self._gate, self._unread_s)
        wrap = call.stream if inspect.isasyncgenfunction(behaviour) else call.single
        return make(
            wrap(behaviour),
            request_deserializer=_tolerant(handler),
            response_serializer=handler.response_serializer,
        )


class _Call:
    """One call's wrapping: the same guard around a coroutine or an async generator."""

    def __init__(self, method: str, metrics: Metrics, gate: Gate, unread_s: float) -> None:
        self._method = method
        self._metrics = metrics
        self._gate = gate
        self._unread_s = unread_s
        self._code = grpc.StatusCode.OK

    def single(self, behaviour: Callable[[Any, Context], Awaitable[Any]]) -> Any:
        async def guarded(request: Any, context: Context) -> Any:
            with self._observed(context):
                try:
                    caller = await self._gate.caller(self._method, context)
                    with self._gate.admitted(caller):
                        return await behaviour(_well_formed(request), context)
                except Exception as error:
                    await self._abort(context, error)

        return guarded

    def stream(self, behaviour: Callable[[Any, Context], AsyncGenerator[Any, None]]) -> Any:
        async def guarded(request: Any, context: Context) -> None:
            with self._observed(context):
                try:
                    caller = await self._gate.caller(self._method, context)
                    with self._gate.admitted(caller):
                        async with aclosing(behaviour(_well_formed(request), context)) as responses:
                            async for response in responses:
                                await write_within(context, response, self._unread_s)
                except Exception as error:
                    await status_taken(self._abort(context, error))

        return guarded

    @contextmanager
    def _observed(self, context: Context) -> Iterator[None]:
        metadata = dict(context.invocation_metadata() or ())
        request_id = str(metadata.get(REQUEST_ID_KEY, "")) or uuid.uuid4().hex
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        bind_ids(request_id=request_id)
        started = time.monotonic()
        try:
            yield
        except asyncio.CancelledError:
            self._code = grpc.StatusCode.CANCELLED
            raise
        finally:
            self._metrics.rpcs.labels(self._method, self._code.name).inc()
            self._metrics.rpc_seconds.labels(self._method).observe(time.monotonic() - started)

    async def _abort(self, context: Context, error: Exception) -> NoReturn:
        """End the call with the error's status."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if not isinstance(error, HolaError):
            log.error("call_failed", method=self._method, exc_info=error)
            request_id = current_id("request_id")
            error = HolaError(f"internal error; the log has it under request {request_id}")
        trailing = (*(context.trailing_metadata() or ()), (DETAILS_KEY, status_details(error)))
        self._code = code_of(error)
        await context.abort(self._code, error.message[:MAX_MESSAGE_CHARS], trailing)


class _Malformed:
    """Stands for a unary request that could not be parsed, until the handler is entered."""


def _tolerant(handler: Handler) -> Callable[[bytes], Any]:
    """The handler's deserializer, whose failure reaches `_Call` instead of grpc's own log."""
    parse = handler.request_deserializer

    def deserialize(raw: bytes) -> Any:
        try:
            return parse(raw) if parse else raw
        except DecodeError:
            if handler.request_streaming:
                raise _not_a_message() from None
            return _Malformed()

    return deserialize


def _well_formed(request: Any) -> Any:
    if isinstance(request, _Malformed):
        raise _not_a_message()
    return request


def _not_a_message() -> InvalidRequest:
    return InvalidRequest("the request's bytes are not a message of this call", field="message")
