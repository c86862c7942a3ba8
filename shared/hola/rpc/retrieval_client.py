"""Calls of a router's RetrievalService."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from hola.config import Settings
from hola.convert import (
    answer_from_pb,
    changes_from_pb,
    deletion_to_pb,
    ingest_part_to_pb,
    ingest_report_from_pb,
    plan_from_pb,
    plan_request_to_pb,
    question_to_pb,
    stats_from_pb,
)
from hola.errors import BusUnavailable, HolaError, InvalidRequest, ServiceUnavailable
from hola.retrieval.ingest_job import IngestPart, IngestReport
from hola.retrieval.queries import LibraryStats, SearchAnswer, SearchQuestion
from hola.retrieval.types import Changes
from hola.rpc.channel import call_metadata, open_channel, parse_address, wait_ready
from hola.rpc.errors import error_from_call
from hola.types import GenerateRequest, Plan
from hola.v1 import retrieval_pb2 as pb, retrieval_pb2_grpc

PIECE_BYTES = 256 * 1024

_SERVICE = pb.DESCRIPTOR.services_by_name["RetrievalService"].full_name
_PAUSE_S = 0.5
_STATUS_S = 2.0
_STATUS_STEP_S = 0.01


class RetrievalClient:
    """One channel to `address`. Use from one event loop.

    Methods raise ServiceUnavailable when no router can be reached or it goes away, and the error
    that the call was refused with.
    """

    def __init__(self, address: str, settings: Settings) -> None:
        """Connects when first used. Raises ConfigError on a malformed address."""
        parse_address(address)
        self._address = address
        self._settings = settings
        self._channel: grpc.aio.Channel | None = None

    async def ingest(
        self, parts: AsyncIterator[IngestPart], *, timeout_s: float | None = None
    ) -> IngestReport:
        """Send IngestOptions, files and documents, and End; the report.

        What `parts` raises ends the call, and nothing is ingested. A cancelled call leaves whole
        documents, or nothing.
        """
        stub = await self._stub()
        call = stub.Ingest(timeout=timeout_s, metadata=call_metadata())
        over = asyncio.Event()
        call.add_done_callback(lambda _: over.set())
        sending = asyncio.create_task(self._send(call, parts))
        ending = asyncio.create_task(over.wait())
        try:
            # A refusal ends the call while there is still something to send, or to wait for.
            await asyncio.wait({sending, ending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            answer = await call
        except grpc.aio.AioRpcError as error:
            raise error_from_call(await _status_of(call, error), self._unavailable) from None
        finally:
            for task in (sending, ending):
                task.cancel()
            await asyncio.gather(sending, ending, return_exceptions=True)
            call.cancel()
        return ingest_report_from_pb(answer.report)

    async def watch(self, job_id: str) -> AsyncGenerator[IngestReport, None]:
        """A job's reports until it has ended; a broken stream is taken up again.

        Raises UnknownRequest, and ServiceUnavailable after HOLA_REATTACH_S without a router.
        """
        last: IngestReport | None = None
        patience = time.monotonic() + self._settings.reattach_s
        while last is None or not last.ended:
            try:
                async with aclosing(self._watch(job_id)) as reports:
                    async for report in reports:
                        patience = time.monotonic() + self._settings.reattach_s
                        if report != last:
                            yield report
                        last = report
            except (ServiceUnavailable, BusUnavailable):
                if time.monotonic() > patience:
                    raise
                await asyncio.sleep(_PAUSE_S)

    async def search(
        self, question: SearchQuestion, *, timeout_s: float | None = None
    ) -> SearchAnswer:
        """The best passages."""
        return answer_from_pb(await self._unary("Search", question_to_pb(question), timeout_s))

    async def plan(self, request: GenerateRequest, *, timeout_s: float | None = None) -> Plan:
        """What Generate would retrieve for a request with messages, and why."""
        message = plan_request_to_pb(request)
        answer = await self._unary("Plan", message, timeout_s)
        return plan_from_pb(answer.plan)

    async def delete(self, collection: str, source: str | None) -> Changes:
        """Remove a source and its parts; None: the whole collection."""
        return changes_from_pb(await self._unary("Delete", deletion_to_pb(collection, source)))

    async def stats(
        self, collection: str = "", *, sources: int = 0, after: str = ""
    ) -> LibraryStats:
        """The collections, or one of them and some of its sources; the ingest jobs."""
        request = pb.RetrievalServiceStatsRequest(
            collection=collection, sources=sources, after=after
        )
        return stats_from_pb(await self._unary("Stats", request))

    async def close(self) -> None:
        """Idempotent."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def _send(self, call: Any, parts: AsyncIterator[IngestPart]) -> None:
        most = self._settings.max_message_bytes
        async for part in parts:
            message = ingest_part_to_pb(part)
            if message.ByteSize() > most:  # gRPC would only say that something went wrong
                raise InvalidRequest(
                    f"a document of {message.ByteSize():,} bytes is more than one message holds"
                    f" ({most:,}): send it as a file",
                    field="document",
                )
            try:
                await call.write(message)
            except asyncio.InvalidStateError:
                return  # refused meanwhile: the call says why
        await call.done_writing()

    async def _watch(self, job_id: str) -> AsyncGenerator[IngestReport, None]:
        stub = await self._stub()
        call = stub.WatchIngest(
            pb.RetrievalServiceWatchIngestRequest(job_id=job_id), metadata=call_metadata()
        )
        try:
            async for answer in call:
                yield ingest_report_from_pb(answer.report)
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error, self._unavailable) from None
        finally:
            call.cancel()

    async def _unary(self, method: str, message: Any, timeout_s: float | None = None) -> Any:
        stub = await self._stub()
        try:
            return await getattr(stub, method)(
                message,
                timeout=timeout_s or self._settings.answer_timeout_s,
                metadata=call_metadata(),
            )
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error, self._unavailable) from None

    async def _stub(self) -> Any:
        if self._channel is None:
            self._channel = open_channel(
                self._address,
                self._settings,
                service=_SERVICE,
                idempotent=("Search", "Stats"),
                shows_token=True,
            )
        timeout_s = self._settings.connect_timeout_s
        missing = self._unavailable(f"no connection within {timeout_s:g} s")
        await wait_ready(self._channel, timeout_s, missing, final=True)
        return retrieval_pb2_grpc.RetrievalServiceStub(self._channel)

    def _unavailable(self, why: str) -> HolaError:
        return ServiceUnavailable(f"router {self._address}: {why}", address=self._address)


async def _status_of(call: Any, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
    """What the server ended the call with, or `error`.

    To a write that fails because the call has been ended, grpc.aio says INTERNAL, and puts the
    server's status in its place as soon as that has come (grpcio 1.78, Call.set_internal_error).
    """
    deadline = time.monotonic() + _STATUS_S
    while error.code() is grpc.StatusCode.INTERNAL and time.monotonic() < deadline:
        error = grpc.aio.AioRpcError(
            await call.code(),
            await call.initial_metadata(),
            await call.trailing_metadata(),
            await call.details(),
        )
        if error.trailing_metadata():  # our servers always send some
            break
        await asyncio.sleep(_STATUS_STEP_S)
    return error
