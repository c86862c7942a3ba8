"""One server interceptor for all four RPC kinds: errors to statuses, request ids, call metrics."""

from __future__ import annotations

import asyncio
import inspect
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio

from hola.errors import HolaError
from hola.rpc.channel import REQUEST_ID_KEY
from hola.rpc.errors import DETAILS_KEY, MAX_MESSAGE_CHARS, code_of, status_details
from hola.telemetry import Metrics, bound_ids, get_logger

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

    A HolaError becomes its status code with rich details; any other exception becomes INTERNAL
    with nothing of its text, and is logged with the request id. The caller's `x-request-id` (or a
    new one) is bound to the logs and sent back in the trailing metadata.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Called by grpc once per call, before the handler."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        kind, make = _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
        behaviour = getattr(handler, kind)
        call = _Call(handler_call_details.method, self._metrics)
        wrap = call.stream if inspect.isasyncgenfunction(behaviour) else call.single
        return make(
            wrap(behaviour),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


class _Call:
    """One call's wrapping: the same guard around a coroutine or an async generator."""

    def __init__(self, method: str, metrics: Metrics) -> None:
        self._method = method
        self._metrics = metrics

    def single(self, behaviour: Callable[[Any, Context], Awaitable[Any]]) -> Any:
        async def guarded(request: Any, context: Context) -> Any:
            with self._observed(context):
                try:
                    return await behaviour(request, context)
                except HolaError as error:
                    await _abort(context, error)
                except grpc.aio.AbortError:
                    raise
                except Exception:
                    log.exception("call_failed", method=self._method)
                    await _abort_unexpected(context)

        return guarded

    def stream(self, behaviour: Callable[[Any, Context], AsyncIterator[Any]]) -> Any:
        async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
            with self._observed(context):
                try:
                    async for response in behaviour(request, context):
                        yield response
                except HolaError as error:
                    await _abort(context, error)
                except grpc.aio.AbortError:
                    raise
                except Exception:
                    log.exception("call_failed", method=self._method)
                    await _abort_unexpected(context)

        return guarded

    @contextmanager
    def _observed(self, context: Context) -> Iterator[None]:
        metadata = dict(context.invocation_metadata() or ())
        request_id = str(metadata.get(REQUEST_ID_KEY, "")) or uuid.uuid4().hex
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        started, code = time.monotonic(), "OK"
        with bound_ids(request_id=request_id):
            try:
                yield
            except (asyncio.CancelledError, GeneratorExit):
                code = "CANCELLED"
                raise
            finally:
                if code == "OK" and context.code():
                    code = _name(context.code())
                self._metrics.rpcs.labels(self._method, code).inc()
                self._metrics.rpc_seconds.labels(self._method).observe(time.monotonic() - started)


async def _abort_unexpected(context: Context) -> NoReturn:
    request_id = dict(context.trailing_metadata() or ()).get(REQUEST_ID_KEY, "")
    await _abort(context, HolaError(f"internal error; the log has request {request_id}"))


async def _abort(context: Context, error: HolaError) -> NoReturn:
    trailing = (*(context.trailing_metadata() or ()), (DETAILS_KEY, status_details(error)))
    await context.abort(code_of(error), error.message[:MAX_MESSAGE_CHARS], trailing)


def _name(code: Any) -> str:
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), str(code))
