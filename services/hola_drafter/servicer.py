"""DrafterService over gRPC: converts, calls the drafter, converts back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc.aio

from hola.convert import drafter_info_to_pb, error_of, event_to_pb, job_from_pb
from hola.security.caller import acting_tenant, current_caller
from hola.types import Failure
from hola.v1 import drafter_pb2, drafter_pb2_grpc
from hola_drafter.drafter import Drafter

Context = grpc.aio.ServicerContext[Any, Any]


class DrafterServicer(drafter_pb2_grpc.DrafterServiceServicer):
    """Serves one drafter."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter

    async def Generate(
        self, request: drafter_pb2.DrafterServiceGenerateRequest, context: Context
    ) -> AsyncGenerator[drafter_pb2.DrafterServiceGenerateResponse, None]:
        """Stream a generation; a Failure is the last message and the status."""
        job = job_from_pb(request.job)
        job = replace(job, tenant=acting_tenant(current_caller(), job.tenant))
        async with aclosing(self._drafter.generate(job)) as events:
            async for event in events:
                yield drafter_pb2.DrafterServiceGenerateResponse(event=event_to_pb(event))
                if isinstance(event, Failure):
                    raise error_of(event)

    async def Info(
        self, request: drafter_pb2.DrafterServiceInfoRequest, context: Context
    ) -> drafter_pb2.DrafterServiceInfoResponse:
        """What the drafter runs."""
        return drafter_info_to_pb(await self._drafter.info())
