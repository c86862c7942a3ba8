"""Composes a router's retrieval: store, embedder, ingest calls and jobs, the servicer."""

from __future__ import annotations

import os
import socket
from contextlib import AsyncExitStack
from functools import partial

from hola.bus.ports import Bus
from hola.config import Settings
from hola.retrieval.data_dir import data_dir
from hola.retrieval.embedder import open_embedder
from hola.retrieval.readers.limits import MIB, Limits
from hola.retrieval.spool import SpoolLimits, Spools
from hola.retrieval.store_from import store_from
from hola.rpc.server import RpcService
from hola.telemetry import Metrics
from hola.v1 import retrieval_pb2, retrieval_pb2_grpc
from hola_router.ingest_run import Works
from hola_router.ingest_worker import IngestWorker
from hola_router.ingesting import Ingesting, IngestRules
from hola_router.library import Library, OneEmbedder
from hola_router.retrieval_servicer import PlanFor, RetrievalServicer


class Retrieval:
    """Everything about documents in one router: its service, and `library` for its planner."""

    def __init__(self, settings: Settings, metrics: Metrics, bus: Bus) -> None:
        """Nothing is loaded or made on disk before it is needed. The bus stays the caller's."""
        store = store_from(settings)
        embedder = OneEmbedder(partial(open_embedder, settings))
        self.library = Library(store, embedder, bus)
        works = Works(
            store=store,
            embedder=embedder,
            spools=Spools(data_dir(settings), _spool_limits(settings)),
            limits=_file_limits(settings),
            metrics=metrics,
        )
        self._ingesting = Ingesting(works, bus, _rules(settings))
        self._worker = IngestWorker(
            works,
            bus,
            name=settings.name or f"{socket.gethostname()}-{os.getpid()}",
            concurrency=settings.ingest_jobs,
            idle_s=settings.job_idle_s,
        )

    def service(self, plan: PlanFor) -> RpcService:
        """What to serve; `plan` is the router's use case."""
        add = retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server
        servicer = RetrievalServicer(self.library, self._ingesting, plan)
        return RpcService(retrieval_pb2.DESCRIPTOR, add, servicer)

    def start(self) -> None:
        """Begin to take ingest jobs."""
        self._worker.start()

    async def close(self) -> None:
        """Give jobs back, close store and embedder. Idempotent."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.library.embedder.close)
            stack.push_async_callback(self.library.store.close)
            stack.push_async_callback(self._ingesting.close)
            await self._worker.close()


def _file_limits(settings: Settings) -> Limits:
    return Limits(file_bytes=settings.ingest_file_mb * MIB, raised_by="HOLA_INGEST_FILE_MB")


def _spool_limits(settings: Settings) -> SpoolLimits:
    return SpoolLimits(
        files=settings.ingest_files,
        bytes=settings.ingest_mb * MIB,
        file_bytes=settings.ingest_file_mb * MIB,
        total_bytes=settings.ingest_spool_mb * MIB,
    )


def _rules(settings: Settings) -> IngestRules:
    return IngestRules(
        inline_bytes=settings.ingest_inline_mb * MIB,
        calls=settings.ingest_calls,
        silence_s=settings.unread_s,
    )
