"""A drafter called directly over gRPC, as a DrafterPort."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import grpc
import grpc.aio

from hola import genai, tracing
from hola.config import Settings
from hola.convert import drafter_info_from_pb, event_from_pb, job_to_pb
from hola.errors import HolaError, ServiceUnavailable
from hola.rpc.channel import call_metadata, open_channel, parse_address, wait_ready
from hola.rpc.errors import error_from_call
from hola.types import DrafterInfo, Failure, GenerateEvent, GenerateJob, Summary
from hola.v1 import drafter_pb2, drafter_pb2_grpc

_SERVICE = drafter_pb2.DESCRIPTOR.services_by_name["DrafterService"].full_name


class GrpcDrafter:
    """DrafterPort on one channel to `address`. Use from one event loop."""

    def __init__(self, address: str, settings: Settings) -> None:
        """Connects when first used. Raises ConfigError on a malformed address."""
        parse_address(address)
        self._address = address
        self._settings = settings
        self._channel: grpc.aio.Channel | None = None

    async def generate(self, job: GenerateJob) -> AsyncGenerator[GenerateEvent, None]:
        """Events of one request, Summary or Failure last. Closing the iterator stops the compute.

        Raises ServiceUnavailable when the drafter cannot be reached or goes away, and the error it
        refused the job with.
        """
        asked = genai.of_request(job.model, job.sampling, request_id=job.request_id)
        with tracing.held(f"text_completion {job.model}".strip(), asked, kind="client") as span:
            stub = drafter_pb2_grpc.DrafterServiceStub(await self._connected())
            call = stub.Generate(
                drafter_pb2.DrafterServiceGenerateRequest(job=job_to_pb(job)),
                metadata=call_metadata(job.request_id, span),
            )
            try:
                async for answer in call:
                    event = event_from_pb(answer.event)
                    yield event
                    if isinstance(event, Summary | Failure):
                        span.set(genai.of_end(event))
                        return
            except grpc.aio.AioRpcError as error:
                raise error_from_call(error, self._unavailable) from None
            finally:
                call.cancel()
            raise self._unavailable("the stream ended before the request did")

    async def info(self) -> DrafterInfo:
        """Raises ServiceUnavailable."""
        stub = drafter_pb2_grpc.DrafterServiceStub(await self._connected())
        try:
            answer = await stub.Info(
                drafter_pb2.DrafterServiceInfoRequest(), timeout=self._settings.rpc_timeout_s
            )
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error, self._unavailable) from None
        return drafter_info_from_pb(answer)

    async def close(self) -> None:
        """Idempotent."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = open_channel(
                self._address,
                self._settings,
                service=_SERVICE,
                idempotent=("Info",),
                shows_token=True,
            )
        timeout_s = self._settings.connect_timeout_s
        missing = self._unavailable(f"no connection within {timeout_s:g} s")
        await wait_ready(self._channel, timeout_s, missing, final=True)
        return self._channel

    def _unavailable(self, why: str) -> HolaError:
        return ServiceUnavailable(f"drafter {self._address}: {why}", address=self._address)
