"""One server interceptor for all four RPC kinds: callers, errors to statuses, ids, metrics."""

from __future__ import annotations

import asyncio
import inspect
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from hola import genai, tracing
from hola.errors import DeadlineExceeded, HolaError, InvalidRequest
from hola.rpc.channel import REQUEST_ID_KEY
from hola.rpc.errors import DETAILS_KEY, MAX_MESSAGE_CHARS, code_of, status_details
from hola.rpc.gate import Gate
from hola.rpc.unread import status_taken, write_within
from hola.telemetry import Metrics, bind_ids, current_id, get_logger
from hola.validate import check_request_id

log = get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
# The library's own class cannot be subscripted at run time.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


_OURS = "/hola."
# As OpenTelemetry's conventions have it: the other codes are the caller's doing.
_SERVERS_FAULT = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds a server waits: for a call's request, and for a reader of its stream."""

    request_s: float
    unread_s: float


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler.

    A HolaError becomes its status code with rich details; bytes that are no message become
    INVALID_ARGUMENT; any other exception becomes INTERNAL with nothing of its text, and is logged
    with the request id. The caller's `x-request-id` (or a new one) is bound to the logs and sent
    back in the trailing metadata. `gate` says who calls before anything is read of the request.
    """

    def __init__(self, metrics: Metrics, gate: Gate, patience: Patience) -> None:
        self._metrics = metrics
        self._gate = gate
        self._patience = patience

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Called by grpc once per call, before the handler."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        behaviour = getattr(
            handler, _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
        )
        call = _Call(handler_call_details.method, self._metrics, self._gate, self._patience)
        # grpc would wait for a single request before it calls the handler, and for strangers too.
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        wrap = call.stream if inspect.isasyncgenfunction(behaviour) else call.single
        return make(
            wrap(behaviour, takes_one=not handler.request_streaming),
            request_deserializer=_tolerant(handler),
            response_serializer=handler.response_serializer,
        )


class _Call:
    """One call's wrapping: the same guard around a coroutine or an async generator."""

    def __init__(self, method: str, metrics: Metrics, gate: Gate, patience: Patience) -> None:
        self._method = method
        self._metrics = metrics
        self._gate = gate
        self._patience = patience
        self._code = grpc.StatusCode.OK

    def single(
        self, behaviour: Callable[[Any, Context], Awaitable[Any]], *, takes_one: bool
    ) -> Any:
        async def guarded(requests: Any, context: Context) -> Any:
            with self._observed(context):
                try:
                    caller = await self._gate.caller(self._method, context)
                    with self._gate.admitted(caller):
                        asked = await self._only(context) if takes_one else requests
                        return await behaviour(asked, context)
                except Exception as error:
                    await self._abort(context, error)

        return guarded

    def stream(
        self, behaviour: Callable[[Any, Context], AsyncGenerator[Any, None]], *, takes_one: bool
    ) -> Any:
        async def guarded(requests: Any, context: Context) -> None:
            with self._observed(context):
                try:
                    caller = await self._gate.caller(self._method, context)
                    with self._gate.admitted(caller):
                        asked = await self._only(context) if takes_one else requests
                        async with aclosing(behaviour(asked, context)) as responses:
                            async for response in responses:
                                await write_within(context, response, self._patience.unread_s)
                except Exception as error:
                    await status_taken(self._abort(context, error))

        return guarded

    async def _only(self, context: Context) -> Any:
        """The one request of a call that has one. Raises DeadlineExceeded, InvalidRequest."""
        limit_s = self._patience.request_s
        try:
            async with asyncio.timeout(limit_s):
                request = await context.read()
        except TimeoutError:
            raise DeadlineExceeded(f"the request did not come within {limit_s:g} s") from None
        if request is grpc.aio.EOF:
            raise InvalidRequest("the call ended before its request came", field="message")
        return request

    @contextmanager
    def _observed(self, context: Context) -> Iterator[None]:
        request_id = _given_id(context) or uuid.uuid4().hex
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        bind_ids(request_id=request_id)
        span = self._span(context)
        tracing.enter(span)
        started = time.monotonic()
        try:
            yield
        except asyncio.CancelledError:
            self._code = grpc.StatusCode.CANCELLED
            raise
        finally:
            span.set({"rpc.grpc.status_code": self._code.value[0]})
            span.end(error=self._code.name if self._code in _SERVERS_FAULT else "")
            self._metrics.rpcs.labels(self._method, self._code.name).inc()
            self._metrics.rpc_seconds.labels(self._method).observe(time.monotonic() - started)

    def _span(self, context: Context) -> tracing.Span:
        """The call's span, under the caller's; none for health checks and their like."""
        if not self._method.startswith(_OURS):
            return tracing.OFF
        parent = str(dict(context.invocation_metadata() or ()).get(tracing.TRACEPARENT, ""))
        attributes = genai.of_call(self._method)
        return tracing.begin(self._method.lstrip("/"), attributes, kind="server", parent=parent)

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


def _tolerant(handler: Handler) -> Callable[[bytes], Any]:
    """The handler's deserializer, whose failure is the caller's error."""
    parse = handler.request_deserializer

    def deserialize(raw: bytes) -> Any:
        try:
            return parse(raw) if parse else raw
        except DecodeError:
            raise _not_a_message() from None

    return deserialize


def _given_id(context: Context) -> str:
    """The caller's request id; empty unless it has the form of one: it goes into every log line."""
    given = str(dict(context.invocation_metadata() or ()).get(REQUEST_ID_KEY, ""))
    try:
        check_request_id(given)
    except InvalidRequest:
        return ""
    return given


def _not_a_message() -> InvalidRequest:
    return InvalidRequest("the request's bytes are not a message of this call", field="message")
