"""RetrievalService over gRPC: converts, calls the use cases, converts back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Protocol

import grpc.aio

from hola.convert import (
    answer_to_pb,
    changes_to_pb,
    deletion_from_pb,
    ingest_part_from_pb,
    ingest_report_to_pb,
    plan_request_from_pb,
    plan_to_pb,
    question_from_pb,
    stats_to_pb,
)
from hola.retrieval.ingest_job import IngestPart
from hola.security.caller import current_tenant
from hola.types import GenerateRequest, Plan
from hola.v1 import retrieval_pb2 as pb, retrieval_pb2_grpc
from hola_router.ingesting import Ingesting
from hola_router.library import Library


class PlanFor(Protocol):
    """The router's plan for a request of a tenant."""

    async def __call__(self, request: GenerateRequest, *, tenant: str) -> Plan:
        """As `Router.plan`."""
        ...


Context = grpc.aio.ServicerContext[Any, Any]


class RetrievalServicer(retrieval_pb2_grpc.RetrievalServiceServicer):
    """Serves one router's library."""

    def __init__(self, library: Library, ingesting: Ingesting, plan: PlanFor) -> None:
        self._library = library
        self._ingesting = ingesting
        self._plan = plan

    async def Ingest(
        self, requests: AsyncIterator[pb.RetrievalServiceIngestRequest], context: Context
    ) -> pb.RetrievalServiceIngestResponse:
        """Take files in; they are ingested by the answer, or a job."""
        report = await self._ingesting.ingest(_parts(requests), tenant=current_tenant())
        return pb.RetrievalServiceIngestResponse(report=ingest_report_to_pb(report))

    async def WatchIngest(
        self, request: pb.RetrievalServiceWatchIngestRequest, context: Context
    ) -> AsyncGenerator[pb.RetrievalServiceWatchIngestResponse, None]:
        """Stream a job's reports to its end."""
        watching = self._ingesting.watch(request.job_id, tenant=current_tenant())
        async with aclosing(watching) as reports:
            async for report in reports:
                yield pb.RetrievalServiceWatchIngestResponse(report=ingest_report_to_pb(report))

    async def Search(
        self, request: pb.RetrievalServiceSearchRequest, context: Context
    ) -> pb.RetrievalServiceSearchResponse:
        """Find passages."""
        question = question_from_pb(request)
        return answer_to_pb(await self._library.search(question, tenant=current_tenant()))

    async def Delete(
        self, request: pb.RetrievalServiceDeleteRequest, context: Context
    ) -> pb.RetrievalServiceDeleteResponse:
        """Delete a source or a collection."""
        collection, source = deletion_from_pb(request)
        changes = await self._library.delete(collection, source, tenant=current_tenant())
        return changes_to_pb(changes)

    async def Plan(
        self, request: pb.RetrievalServicePlanRequest, context: Context
    ) -> pb.RetrievalServicePlanResponse:
        """Say what would be retrieved, and why."""
        plan = await self._plan(plan_request_from_pb(request), tenant=current_tenant())
        return pb.RetrievalServicePlanResponse(plan=plan_to_pb(plan))

    async def Stats(
        self, request: pb.RetrievalServiceStatsRequest, context: Context
    ) -> pb.RetrievalServiceStatsResponse:
        """Collections and jobs."""
        stats = await self._library.stats(
            request.collection,
            sources=request.sources,
            after=request.after,
            tenant=current_tenant(),
        )
        return stats_to_pb(stats)


async def _parts(
    requests: AsyncIterator[pb.RetrievalServiceIngestRequest],
) -> AsyncGenerator[IngestPart, None]:
    async for request in requests:
        yield ingest_part_from_pb(request)
