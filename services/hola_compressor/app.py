"""Composes a compressor: bus, store, use case, worker, server."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack

from hola.bus.from_settings import bus_from
from hola.bus.ports import Bus
from hola.config import Settings
from hola.extras import is_installed
from hola.models.store import ModelStore
from hola.retrieval.data_dir import data_dir
from hola.rpc.server import RpcServer, RpcService
from hola.telemetry import Metrics, get_logger
from hola.v1 import compressor_pb2, compressor_pb2_grpc
from hola_compressor.delivery import Workshop
from hola_compressor.jobs import Compressor
from hola_compressor.process import CHILD, PassProcess
from hola_compressor.servicer import CompressorServicer
from hola_compressor.sources import Sources
from hola_compressor.workdir import WorkDirs
from hola_compressor.worker import CompressionWorker

log = get_logger(__name__)

_MIB = 2**20
SHARED, PRIVATE = "compression", "compression-local"


class CompressorApp:
    """One compressor process, or one compressor inside a node (`open`, `services`, `close`).

    `private` is for the person whose process this is: sources may be directories, and the jobs'
    own directories are apart from those of services.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        bus: Bus | None,
        child: Sequence[str],
        private: bool,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._bus = bus
        self._workshop = Workshop(
            sources=Sources(
                store=ModelStore.at(settings.models_dir, offline=settings.offline),
                hub=settings.compress_hub or private,
                paths=private,
            ),
            works=WorkDirs(data_dir(settings) / (PRIVATE if private else SHARED)),
            process=PassProcess(lease_s=settings.job_idle_s, command=child),
            memory_budget_bytes=settings.memory_budget_mb * _MIB,
        )
        self._opened = AsyncExitStack()
        self._compressor: Compressor | None = None
        self._working: asyncio.Task[None] | None = None
        self._server: RpcServer | None = None

    @property
    def compressor(self) -> Compressor:
        """The use case, after `open`."""
        if self._compressor is None:
            raise RuntimeError("the compressor is not open")
        return self._compressor

    @property
    def address(self) -> str:
        """Where it serves, after `start`."""
        return "" if self._server is None else self._server.address

    @property
    def services(self) -> tuple[RpcService, ...]:
        """What to serve, after `open`."""
        add = compressor_pb2_grpc.add_CompressorServiceServicer_to_server
        servicer = CompressorServicer(self.compressor)
        return (RpcService(compressor_pb2.DESCRIPTOR, add, servicer),)

    async def open(self) -> None:
        """Connect to the bus, begin to take jobs where the compress extra is installed.

        Raises ConfigError, BusUnavailable.
        """
        settings = self._settings
        bus = self._bus or await self._open_bus()
        tenants = frozenset(filter(None, map(str.strip, settings.compress_tenants.split(","))))
        self._compressor = Compressor(bus, self._workshop, tenants)
        if not is_installed("torch"):
            log.info("takes_no_jobs", why="the compress extra is not installed")
            return
        worker = CompressionWorker(
            bus,
            self._workshop,
            name=settings.name or f"{socket.gethostname()}-{os.getpid()}",
            idle_s=settings.job_idle_s,
            bus_patience_s=settings.verifier_wait_s,
            metrics=self._metrics,
        )
        self._working = asyncio.create_task(worker.run())
        self._opened.push_async_callback(self._end_work, self._working)

    async def start(self) -> None:
        """`open`, then serve. Raises ConfigError on an address that is malformed or taken."""
        listen = self._settings.listen_on("compressor")
        await self.open()
        self._server = RpcServer(listen, self.services, self._settings, self._metrics)
        await self._server.start()

    async def wait(self) -> None:
        """Return when the server has stopped; raises what ended the worker."""
        if self._server is None:
            return
        serving = asyncio.create_task(self._server.wait())
        try:
            ends = {serving} if self._working is None else {serving, self._working}
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            serving.cancel()

    async def stop(self) -> None:
        """Refuse new calls, give the job under way back, free everything. Idempotent."""
        if self._server is not None:
            await self._server.stop()
        await self.close()

    async def close(self) -> None:
        """Free what `open` opened; the job under way goes back to the queue. Idempotent."""
        await self._opened.aclose()

    async def _open_bus(self) -> Bus:
        bus = await bus_from(self._settings)
        self._opened.push_async_callback(bus.close)
        return bus

    @staticmethod
    async def _end_work(working: asyncio.Task[None]) -> None:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def build(
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    bus: Bus | None = None,
    child: Sequence[str] = CHILD,
    private: bool = False,
) -> CompressorApp:
    """A compressor; a given bus is used and not closed. `child` is the command of the passes."""
    return CompressorApp(settings, metrics or Metrics(), bus, child, private)
