"""CompressorService over gRPC: converts, asks the use case, converts back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc.aio

from hola.convert.compression import (
    artifact_to_pb,
    job_request_from_pb,
    status_to_pb,
    submitted_to_pb,
)
from hola.errors import from_reason
from hola.security.caller import current_caller
from hola.v1 import compressor_pb2, compressor_pb2_grpc
from hola_compressor.jobs import Compressor

Context = grpc.aio.ServicerContext[Any, Any]


class CompressorServicer(compressor_pb2_grpc.CompressorServiceServicer):
    """Serves one compressor."""

    def __init__(self, compressor: Compressor) -> None:
        self._compressor = compressor

    async def SubmitJob(
        self, request: compressor_pb2.SubmitJobRequest, context: Context
    ) -> compressor_pb2.SubmitJobResponse:
        """Queue a job."""
        tenant = self._compressor.tenant_of(current_caller())
        submitted = await self._compressor.submit(job_request_from_pb(request), tenant=tenant)
        return submitted_to_pb(submitted)

    async def WatchJob(
        self, request: compressor_pb2.WatchJobRequest, context: Context
    ) -> AsyncGenerator[compressor_pb2.WatchJobResponse, None]:
        """Stream a job's progress; a failure is the last message and the status."""
        tenant = self._compressor.tenant_of(current_caller())
        async with aclosing(self._compressor.watch(request.job_id, tenant=tenant)) as statuses:
            async for status in statuses:
                yield status_to_pb(status)
                if (failure := status.failure) is not None:
                    raise from_reason(failure.reason, failure.message, dict(failure.details))

    async def CancelJob(
        self, request: compressor_pb2.CancelJobRequest, context: Context
    ) -> compressor_pb2.CancelJobResponse:
        """End a job."""
        tenant = self._compressor.tenant_of(current_caller())
        cancelled = await self._compressor.cancel(request.job_id, tenant=tenant)
        return compressor_pb2.CancelJobResponse(cancelled=cancelled)

    async def ListArtifacts(
        self, request: compressor_pb2.ListArtifactsRequest, context: Context
    ) -> compressor_pb2.ListArtifactsResponse:
        """What is in the store."""
        self._compressor.tenant_of(current_caller())
        found = await self._compressor.artifacts(request.model)
        return compressor_pb2.ListArtifactsResponse(artifacts=map(artifact_to_pb, found))

    async def GetReport(
        self, request: compressor_pb2.GetReportRequest, context: Context
    ) -> compressor_pb2.GetReportResponse:
        """An artifact's report."""
        self._compressor.tenant_of(current_caller())
        info, text = await self._compressor.report(request.model, request.tier)
        return compressor_pb2.GetReportResponse(artifact=artifact_to_pb(info), report_json=text)
