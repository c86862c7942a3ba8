"""Composes a router: bus, model store, use case, server."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from hola.bus.from_settings import bus_from
from hola.bus.ports import Bus
from hola.checking import AnswerCheck
from hola.config import Settings
from hola.models.store import ModelStore
from hola.rpc.server import RpcServer, RpcService
from hola.rpc.verifier_pool import VerifierPool
from hola.rpc.verifier_sources import REGISTRY
from hola.telemetry import Metrics
from hola.v1 import router_pb2, router_pb2_grpc
from hola_router.backlog import watch_backlog
from hola_router.catalogue import Catalogue
from hola_router.gate import Gate
from hola_router.generate import Router
from hola_router.judge import Judge
from hola_router.knowledge import Knowledge
from hola_router.library import Library
from hola_router.planner import Planner
from hola_router.retrieval import Retrieval
from hola_router.servicer import RouterServicer
from hola_router.tenants import tenants_from


class RouterApp:
    """One router process, or one router inside a node (`open`, `services`, `close`)."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        bus: Bus | None,
        store: ModelStore,
        check: AnswerCheck | None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._bus = bus
        self._store = store
        self._check = check
        self._opened = AsyncExitStack()
        self._router: Router | None = None
        self._retrieval: Retrieval | None = None
        self._gate: Gate | None = None
        self._server: RpcServer | None = None

    @property
    def router(self) -> Router:
        """The use case, after `open`."""
        if self._router is None:
            raise RuntimeError("the router is not open")
        return self._router

    @property
    def retrieval(self) -> Retrieval:
        """The collections, after `open`."""
        if self._retrieval is None:
            raise RuntimeError("the router is not open")
        return self._retrieval

    @property
    def address(self) -> str:
        """Where it serves, after `start`."""
        return "" if self._server is None else self._server.address

    @property
    def services(self) -> tuple[RpcService, ...]:
        """What to serve, after `open`."""
        add = router_pb2_grpc.add_RouterServiceServicer_to_server
        router = RpcService(router_pb2.DESCRIPTOR, add, RouterServicer(self.router))
        return (router, self.retrieval.service(self.router.plan))

    async def open(self) -> None:
        """Connect to the bus.

        Raises UnknownModel when the default family is not in the store, ConfigError on a file of
        tenants that cannot be used, BusUnavailable.
        """
        settings = self._settings
        catalogue = Catalogue(self._store, settings.model)
        bus = self._bus or await self._open_bus()
        self._retrieval = Retrieval(settings, self._metrics, bus)
        self._opened.push_async_callback(self._retrieval.close)
        self._retrieval.start()
        self._gate = Gate(
            bus,
            tenants=tenants_from(settings),
            queue_limit=settings.queue_limit,
            kv_share=settings.kv_share,
        )
        self._router = Router(
            bus=bus,
            catalogue=catalogue,
            detach_grace_s=settings.detach_grace_s,
            gate=self._gate,
            planner=self._planner(catalogue, bus, self._retrieval.library),
            metrics=self._metrics,
        )
        self._opened.push_async_callback(self._router.close)
        watching = asyncio.create_task(watch_backlog(bus, self._metrics))
        self._opened.callback(watching.cancel)

    async def start(self) -> None:
        """`open`, then serve. Raises ConfigError on an address that is malformed or taken."""
        listen = self._settings.listen_on("router")
        await self.open()
        self._server = RpcServer(listen, self.services, self._settings, self._metrics)
        await self._server.start()

    async def wait(self) -> None:
        """Return when the server has stopped."""
        if self._server is not None:
            await self._server.wait()

    async def stop(self) -> None:
        """Refuse new calls, drain, disconnect. Idempotent."""
        if self._server is not None:
            await self._server.stop()
        await self.close()

    async def close(self) -> None:
        """Free what `open` opened. Idempotent."""
        await self._opened.aclose()

    def _planner(self, catalogue: Catalogue, bus: Bus, library: Library) -> Planner:
        """Nothing of it is loaded or reached before a request asks for retrieval."""
        settings = self._settings
        check = self._check or self._open_check(bus)
        judge = Judge(settings, check)
        self._opened.push_async_callback(judge.close)
        knowledge = Knowledge(library.store, library.embedder, timeout_s=settings.rpc_timeout_s)
        return Planner(
            catalogue,
            knowledge,
            judge,
            answer_worth_ms=settings.answer_worth_ms,
            latency_target_ms=settings.latency_target_ms,
        )

    def _open_check(self, bus: Bus) -> AnswerCheck:
        spec = self._settings.verifier
        registry = bus.registry if spec == REGISTRY else None
        pool = VerifierPool(spec, self._settings, registry=registry, metrics=self._metrics)
        self._opened.push_async_callback(pool.close)
        return pool

    def reload(self, settings: Settings) -> None:
        """Take up limits of tenants and verifiers. Raises ConfigError; nothing has changed then."""
        tenants = tenants_from(settings)
        self._settings = settings  # counts where it is not open yet
        if self._gate is not None:
            self._gate.reload(tenants, settings.kv_share)

    async def _open_bus(self) -> Bus:
        bus = await bus_from(self._settings)
        self._opened.push_async_callback(bus.close)
        return bus


def build(
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    bus: Bus | None = None,
    store: ModelStore | None = None,
    check: AnswerCheck | None = None,
) -> RouterApp:
    """A router with its production parts, but for those given; given ones are not closed.

    `check` is asked about drafted answers, instead of the verifiers of HOLA_VERIFIER.
    """
    store = store or ModelStore.at(settings.models_dir)
    return RouterApp(settings, metrics or Metrics(), bus, store, check)
