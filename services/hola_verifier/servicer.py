"""VerifierService over gRPC: converts, answers in turn, converts back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc.aio

from hola.convert import (
    check_request_from_pb,
    checked_to_pb,
    failure_of,
    verifier_info_to_pb,
    verifier_request_from_pb,
    verifier_response_to_pb,
)
from hola.errors import HolaError
from hola.security.caller import acting_tenant, current_caller
from hola.types import Done, Open, VerifierRequest
from hola.v1 import verifier_pb2, verifier_pb2_grpc
from hola_verifier.hosts import Hosts
from hola_verifier.stream import SessionStream

Context = grpc.aio.ServicerContext[Any, Any]


class VerifierServicer(verifier_pb2_grpc.VerifierServiceServicer):
    """Serves the hosts of one verifier."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    async def Verify(
        self, requests: AsyncIterator[verifier_pb2.VerifyRequest], context: Context
    ) -> AsyncIterator[verifier_pb2.VerifyResponse]:
        """One session: an answer per message, then Done or Failed (the status as well)."""
        stream = SessionStream(self._hosts)
        try:
            async for request in stream.each(requests):
                answer = await stream.answer(_owned(verifier_request_from_pb(request)))
                yield verifier_response_to_pb(answer)
                if isinstance(answer, Done):
                    return
            yield verifier_response_to_pb(stream.hang_up())
        except HolaError as error:
            yield verifier_response_to_pb(failure_of(error))
            raise
        finally:
            stream.detach()

    async def Info(
        self, request: verifier_pb2.VerifierServiceInfoRequest, context: Context
    ) -> verifier_pb2.VerifierServiceInfoResponse:
        """What is served, and how loaded it is."""
        return verifier_info_to_pb(self._hosts.current.info())

    async def Check(
        self, request: verifier_pb2.VerifierServiceCheckRequest, context: Context
    ) -> verifier_pb2.VerifierServiceCheckResponse:
        """The target's view of a drafted answer, in the name of whom the caller may act for."""
        asked = check_request_from_pb(request)
        tenant = acting_tenant(current_caller(), asked.tenant)
        return checked_to_pb(await self._hosts.current.check(replace(asked, tenant=tenant)))


def _owned(request: VerifierRequest) -> VerifierRequest:
    """The request in the name of the tenant that the caller may act for."""
    if isinstance(request, Open):
        return replace(request, tenant=acting_tenant(current_caller(), request.tenant))
    return request
