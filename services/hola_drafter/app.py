"""Composes a drafter: draft tiers, verifier, bus, job worker, server."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack, suppress

from hola.bus.from_settings import bus_from
from hola.bus.ports import Bus
from hola.config import Settings
from hola.engines import SCRIPTED_PREFIX
from hola.engines.worker import EngineWorker
from hola.errors import HolaError
from hola.models.store import ModelStore
from hola.models.watch import FamilyWatch
from hola.ports import VerifierPort
from hola.rpc.server import RpcServer, RpcService
from hola.rpc.verifier_pool import VerifierPool
from hola.rpc.verifier_sources import REGISTRY
from hola.telemetry import Metrics, get_logger
from hola.v1 import drafter_pb2, drafter_pb2_grpc
from hola_drafter.drafter import Drafter, DraftModel
from hola_drafter.model import family_digests, load_draft_model
from hola_drafter.patience import Patience
from hola_drafter.servicer import DrafterServicer
from hola_drafter.worker import JobWorker

log = get_logger(__name__)

# A new artifact is loaded when nothing runs, or after so long; one that could not be, again.
_QUIET_WAIT_S = 10.0
_RETRY_S = 30.0
_LOOK_S = 0.1


class DrafterApp:
    """One drafter process, or one drafter inside a node (`open`, `services`, `close`).

    What is given is used and not closed; what is missing is made from the settings.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        bus: Bus | None,
        verifier: VerifierPort | None,
        model: DraftModel | None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._bus = bus
        self._verifier = verifier
        self._model = model
        self._opened = AsyncExitStack()
        self._drafter: Drafter | None = None
        self._jobs: JobWorker | None = None
        self._running: asyncio.Task[None] | None = None
        self._server: RpcServer | None = None

    @property
    def drafter(self) -> Drafter:
        """The drafter, after `open`."""
        if self._drafter is None:
            raise RuntimeError("the drafter is not open")
        return self._drafter

    @property
    def address(self) -> str:
        """Where it serves, after `start`."""
        return "" if self._server is None else self._server.address

    @property
    def services(self) -> tuple[RpcService, ...]:
        """What to serve, after `open`."""
        add = drafter_pb2_grpc.add_DrafterServiceServicer_to_server
        return (RpcService(drafter_pb2.DESCRIPTOR, add, DrafterServicer(self.drafter)),)

    async def open(self) -> None:
        """Load the tiers, connect to the bus, begin to take jobs.

        The verifier need not be there yet. Raises what `load_draft_model` raises, ConfigError,
        BusUnavailable.
        """
        settings = self._settings
        model = self._model or await self._load_model()
        bus = self._bus or await self._open_bus()
        verifier = self._verifier or self._open_verifier(bus)
        engine_worker = EngineWorker("draft")
        self._opened.push_async_callback(engine_worker.close, settings.drain_s)
        self._drafter = Drafter(
            model,
            verifier,
            engine_worker,
            patience=Patience(
                verifier_wait_s=settings.verifier_wait_s, answer_s=settings.answer_timeout_s
            ),
            max_direct=settings.max_sessions,
            metrics=self._metrics,
        )
        self._jobs = JobWorker(
            bus,
            self._drafter,
            name=settings.name or f"{socket.gethostname()}-{os.getpid()}",
            concurrency=settings.concurrency,
            idle_s=settings.job_idle_s,
            bus_patience_s=settings.verifier_wait_s,
        )
        if self._model is None and not settings.model.startswith(SCRIPTED_PREFIX):
            renewing = asyncio.create_task(self._renew(self._drafter, bus))
            self._opened.push_async_callback(_end, renewing)
        self._running = asyncio.create_task(self._jobs.run(drain_s=settings.drain_s))
        self._opened.push_async_callback(self._end_jobs, self._jobs, self._running)

    async def start(self) -> None:
        """`open`, then serve. Raises ConfigError on an address that is malformed or taken."""
        listen = self._settings.listen_on("drafter")
        await self.open()
        self._server = RpcServer(listen, self.services, self._settings, self._metrics)
        await self._server.start()

    async def wait(self) -> None:
        """Run until stopped; raises what ended the job worker."""
        if self._running is not None:
            await asyncio.shield(self._running)

    async def stop(self) -> None:
        """Take no more jobs, refuse new calls, drain, free everything. Idempotent."""
        if self._jobs is not None:
            self._jobs.stop()
        if self._server is not None:
            await self._server.stop()
        await self.close()

    async def close(self) -> None:
        """Free what `open` opened. Idempotent."""
        await self._opened.aclose()

    async def _load_model(self) -> DraftModel:
        model = await asyncio.to_thread(load_draft_model, self._settings)
        self._opened.callback(self._close_engines, model)
        return model

    def _close_engines(self, first: DraftModel) -> None:
        """Of the model that runs by now; older ones went with their last request."""
        model = first if self._drafter is None else self._drafter.model
        for engine in model.engines.values():
            engine.close()

    async def _renew(self, drafter: Drafter, bus: Bus) -> None:
        """Load what the family's tiers become, until cancelled; what cannot be, again later.

        Drafts only guess, so the text stays the same whichever of them runs.
        """
        settings = self._settings
        watch = FamilyWatch(ModelStore.at(settings.models_dir), settings.model, bus.releases)
        while True:
            await watch.changed(family_digests, drafter.model.digests)
            await self._quiet_moment(drafter)
            try:
                model = await asyncio.to_thread(load_draft_model, settings)
            except HolaError as error:
                log.warning("artifact_not_loaded", reason=error.reason, message=error.message)
                await asyncio.sleep(_RETRY_S)
            else:
                drafter.swap(model)
                log.info("drafts_loaded", model=model.name, tiers=model.tiers)

    @staticmethod
    async def _quiet_moment(drafter: Drafter) -> None:
        """Until nothing runs; under steady load there is none, and then after _QUIET_WAIT_S."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_QUIET_WAIT_S):
                while drafter.busy:  # noqa: ASYNC110 - requests come and go at any time
                    await asyncio.sleep(_LOOK_S)

    async def _open_bus(self) -> Bus:
        bus = await bus_from(self._settings)
        self._opened.push_async_callback(bus.close)
        return bus

    def _open_verifier(self, bus: Bus) -> VerifierPort:
        spec = self._settings.verifier
        registry = bus.registry if spec == REGISTRY else None
        verifier = VerifierPool(spec, self._settings, registry=registry, metrics=self._metrics)
        self._opened.push_async_callback(verifier.close)
        return verifier

    @staticmethod
    async def _end_jobs(jobs: JobWorker, running: asyncio.Task[None]) -> None:
        jobs.stop()
        await asyncio.gather(running, return_exceptions=True)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def build(
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    bus: Bus | None = None,
    verifier: VerifierPort | None = None,
    model: DraftModel | None = None,
) -> DrafterApp:
    """A drafter with its production parts, but for those given; given ones are not closed."""
    return DrafterApp(settings, metrics or Metrics(), bus, verifier, model)
