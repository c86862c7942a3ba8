"""RouterService over gRPC: converts, calls the use case, converts back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc.aio

from hola.convert import (
    error_of,
    event_to_pb,
    request_from_pb,
    response_to_pb,
    router_info_to_pb,
)
from hola.security.caller import current_tenant
from hola.types import Failure
from hola.v1 import router_pb2, router_pb2_grpc
from hola_router.generate import Router

Context = grpc.aio.ServicerContext[Any, Any]


class RouterServicer(router_pb2_grpc.RouterServiceServicer):
    """Serves one router."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def Generate(
        self, request: router_pb2.RouterServiceGenerateRequest, context: Context
    ) -> AsyncGenerator[router_pb2.RouterServiceGenerateResponse, None]:
        """Accept a request and stream it; a Failure is the last message and the status."""
        accepted = await self._router.accept(
            request_from_pb(request),
            tenant=current_tenant(),
            timeout_s=context.time_remaining(),
        )
        async with aclosing(self._router.attach(accepted)) as events:
            async for event, plan in events:
                yield response_to_pb(event, plan)
                if isinstance(event, Failure):
                    raise error_of(event)

    async def Resume(
        self, request: router_pb2.RouterServiceResumeRequest, context: Context
    ) -> AsyncGenerator[router_pb2.RouterServiceResumeResponse, None]:
        """Stream a request from a position on, as Generate would have."""
        following = self._router.resume(
            request.request_id, request.position, tenant=current_tenant()
        )
        async with aclosing(following) as events:
            async for event in events:
                yield router_pb2.RouterServiceResumeResponse(event=event_to_pb(event))
                if isinstance(event, Failure):
                    raise error_of(event)

    async def Cancel(
        self, request: router_pb2.RouterServiceCancelRequest, context: Context
    ) -> router_pb2.RouterServiceCancelResponse:
        """End a request."""
        cancelled = await self._router.cancel(request.request_id, tenant=current_tenant())
        return router_pb2.RouterServiceCancelResponse(cancelled=cancelled)

    async def Info(
        self, request: router_pb2.RouterServiceInfoRequest, context: Context
    ) -> router_pb2.RouterServiceInfoResponse:
        """Models and limits."""
        return router_info_to_pb(await self._router.info(tenant=current_tenant()))
