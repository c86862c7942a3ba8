"""CompressorService over gRPC: answers every call that the work is not in this version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc.aio

from hola import __version__
from hola.errors import NotImplementedYet
from hola.v1 import compressor_pb2, compressor_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class CompressorServicer(compressor_pb2_grpc.CompressorServiceServicer):
    """The contract, so that clients and deployments can be built against it."""

    async def SubmitJob(
        self, request: compressor_pb2.SubmitJobRequest, context: Context
    ) -> compressor_pb2.SubmitJobResponse:
        """Raises NotImplementedYet."""
        refuse("SubmitJob")

    async def WatchJob(
        self, request: compressor_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[compressor_pb2.WatchJobResponse]:
        """Raises NotImplementedYet."""
        refuse("WatchJob")
        yield compressor_pb2.WatchJobResponse()  # makes this a stream

    async def ListArtifacts(
        self, request: compressor_pb2.ListArtifactsRequest, context: Context
    ) -> compressor_pb2.ListArtifactsResponse:
        """Raises NotImplementedYet."""
        refuse("ListArtifacts")


def refuse(call: str) -> NoReturn:
    """Raises NotImplementedYet for a call of the contract."""
    raise NotImplementedYet(
        f"{call}: compression is not in HOLA {__version__}; quantized models of other tools can be"
        " added with `hola models add`",
        call=call,
    )
