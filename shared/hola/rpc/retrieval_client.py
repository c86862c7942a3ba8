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
    question_to_pb,
    stats_from_pb,
)
from hola.errors import BusUnavailable, HolaError, ServiceUnavailable
from hola.retrieval.ingest_job import IngestPart, IngestReport
from hola.retrieval.queries import LibraryStats, SearchAnswer, SearchQuestion
from hola.retrieval.types import Changes
from hola.rpc.channel import call_metadata, open_channel, parse_address, wait_ready
from hola.rpc.errors import error_from_call
from hola.v1 import retrieval_pb2 as pb, retrieval_pb2_grpc

PIECE_BYTES = 256 * 1024

_SERVICE = pb.DESCRIPTOR.services_by_name["RetrievalService"].full_name
_PAUSE_S = 0.5


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
        try:
            await self._send(call, parts)
            answer = await call
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error, self._unavailable) from None
        finally:
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
        async for part in parts:
            try:
                await call.write(ingest_part_to_pb(part))
            except (asyncio.InvalidStateError, grpc.aio.UsageError):
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
