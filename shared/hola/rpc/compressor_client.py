"""A compressor's client: submits jobs, and takes up a broken watch again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import grpc.aio

from hola.compression.job import ArtifactInfo, JobStatus
from hola.compression.request import JobRequest, Submitted
from hola.config import Settings
from hola.convert.compression import (
    artifact_from_pb,
    job_request_to_pb,
    status_from_pb,
    submitted_from_pb,
)
from hola.errors import BusUnavailable, HolaError, ServiceUnavailable
from hola.rpc.channel import open_channel, parse_address, wait_ready
from hola.rpc.errors import error_from_call
from hola.rpc.reattach import Patience
from hola.telemetry import get_logger
from hola.v1 import compressor_pb2, compressor_pb2_grpc

log = get_logger(__name__)

_SERVICE = compressor_pb2.DESCRIPTOR.services_by_name["CompressorService"].full_name
# A submission waits for its prediction, which loads libraries on a machine that may be busy.
SUBMIT_S = 300.0


class CompressorClient:
    """Calls of a compressor on one channel to `address`. Use from one event loop."""

    def __init__(self, address: str, settings: Settings) -> None:
        """Connects when first used. Raises ConfigError on a malformed address."""
        parse_address(address)
        self._address = address
        self._settings = settings
        self._channel: grpc.aio.Channel | None = None

    async def submit(self, request: JobRequest) -> Submitted:
        """Queue a job. Raises what it is refused with, ServiceUnavailable."""
        message = job_request_to_pb(request)
        return submitted_from_pb(await self._unary("SubmitJob", message, SUBMIT_S))

    async def watch(self, job_id: str) -> AsyncGenerator[JobStatus]:
        """The job's status now and at every change, an ended one last.

        A broken connection is taken up again; what a failed job failed with is in its last status.
        Raises UnknownRequest, and ServiceUnavailable when the compressor stays away longer than
        HOLA_REATTACH_S.
        """
        patience, ended = Patience(self._settings.reattach_s), False
        while not ended:
            try:
                stub = compressor_pb2_grpc.CompressorServiceStub(await self._connected())
                call = stub.WatchJob(compressor_pb2.WatchJobRequest(job_id=job_id))
                try:
                    async for message in call:
                        patience.reset()
                        status = status_from_pb(message)
                        ended = status.state.ended
                        yield status
                        if ended:
                            return
                finally:
                    call.cancel()
                raise self._unavailable("the stream ended before the job did")
            except grpc.aio.AioRpcError as error:
                broken = error_from_call(error, self._unavailable)
                if not isinstance(broken, ServiceUnavailable | BusUnavailable):
                    raise broken from None
                await patience.wait(broken)
            except ServiceUnavailable as broken:
                await patience.wait(broken)

    async def cancel(self, job_id: str) -> bool:
        """End a job; False when it had ended. Raises UnknownRequest, ServiceUnavailable."""
        answer = await self._unary("CancelJob", compressor_pb2.CancelJobRequest(job_id=job_id))
        return bool(answer.cancelled)

    async def artifacts(self, model: str = "") -> tuple[ArtifactInfo, ...]:
        """By family, then tier. Raises UnknownModel, ServiceUnavailable."""
        message = compressor_pb2.ListArtifactsRequest(model=model)
        answer = await self._unary("ListArtifacts", message)
        return tuple(map(artifact_from_pb, answer.artifacts))

    async def report(self, model: str, tier: str = "") -> tuple[ArtifactInfo, str]:
        """An artifact and its report.json. Raises UnknownModel, InvalidRequest, ArtifactCorrupt."""
        message = compressor_pb2.GetReportRequest(model=model, tier=tier)
        answer = await self._unary("GetReport", message)
        return artifact_from_pb(answer.artifact), str(answer.report_json)

    async def close(self) -> None:
        """Idempotent."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def _unary(self, method: str, message: Any, timeout_s: float | None = None) -> Any:
        stub = compressor_pb2_grpc.CompressorServiceStub(await self._connected())
        limit_s = timeout_s or self._settings.rpc_timeout_s
        try:
            return await getattr(stub, method)(message, timeout=limit_s)
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error, self._unavailable) from None

    async def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = open_channel(
                self._address,
                self._settings,
                service=_SERVICE,
                idempotent=("CancelJob", "ListArtifacts", "GetReport"),
                shows_token=True,
            )
        timeout_s = self._settings.connect_timeout_s
        missing = self._unavailable(f"no connection within {timeout_s:g} s")
        await wait_ready(self._channel, timeout_s, missing, final=True)
        return self._channel

    def _unavailable(self, why: str) -> HolaError:
        return ServiceUnavailable(f"compressor {self._address}: {why}", address=self._address)
