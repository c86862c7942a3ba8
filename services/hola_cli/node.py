"""All four services in one process, joined by an in-process bus and verifier."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import hola_compressor.app
import hola_drafter.app
import hola_router.app
import hola_verifier.app
from hola.bus.from_settings import bus_from
from hola.bus.ports import Bus
from hola.config import Settings
from hola.ports import VerifierPort
from hola.rpc.server import RpcServer
from hola.telemetry import Metrics
from hola_drafter.drafter import Drafter, DraftModel
from hola_router.generate import Router
from hola_verifier.target import Target

MEMORY = "memory:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A running node: call its parts directly, or by gRPC at `address` ("" without a socket)."""

    router: Router
    drafter: Drafter
    verifier: VerifierPort
    bus: Bus
    address: str
    router_app: hola_router.app.RouterApp

    def reload(self, settings: Settings) -> None:
        """Take up what may change while it runs. Raises ConfigError; nothing has changed then."""
        self.router_app.reload(settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Models that are loaded already, instead of HOLA_MODEL (tests, benchmarks)."""

    target: Target | None = None
    drafts: DraftModel | None = None


@asynccontextmanager
async def open_node(
    settings: Settings,
    *,
    listen: str = "",
    bus: str = MEMORY,
    metrics: Metrics | None = None,
    parts: Parts | None = None,
) -> AsyncIterator[Node]:
    """Run router, drafter, verifier and compressor for the time of the block.

    Without `listen` no socket is opened; with it, one server serves all four services. Raises what
    starting a service can raise: ConfigError, UnknownModel, ArtifactCorrupt, ArtifactInvalid,
    MemoryBudgetExceeded, MissingExtra, BusUnavailable.
    """
    metrics = metrics or Metrics()
    parts = parts or Parts()
    settings = settings.model_copy(update={"bus": bus, "listen": listen})
    if not listen:  # nobody can send files here; those of others' jobs are not ours to look at
        settings = settings.model_copy(update={"ingest_jobs": 0})
    async with AsyncExitStack() as stack:
        shared_bus = await bus_from(settings)
        stack.push_async_callback(shared_bus.close)
        verifier = hola_verifier.app.build(settings, metrics, target=parts.target, bus=shared_bus)
        await _open(stack, verifier)
        router = hola_router.app.build(settings, metrics, bus=shared_bus, check=verifier.port)
        await _open(stack, router)
        drafter = hola_drafter.app.build(
            settings, metrics, bus=shared_bus, verifier=verifier.port, model=parts.drafts
        )
        await _open(stack, drafter)
        address = ""
        if listen:
            compressor = hola_compressor.app.build(settings, metrics, bus=shared_bus)
            await _open(stack, compressor)
            apps = (router, drafter, verifier, compressor)
            services = [service for app in apps for service in app.services]
            server = RpcServer(listen, services, settings, metrics)
            stack.push_async_callback(server.stop)
            await server.start()
            address = server.address
        yield Node(
            router=router.router,
            drafter=drafter.drafter,
            verifier=verifier.port,
            bus=shared_bus,
            address=address,
            router_app=router,
        )


class _App(Protocol):
    async def open(self) -> None: ...

    async def close(self) -> None: ...


async def _open(stack: AsyncExitStack, app: _App) -> None:
    """Open a service; it is closed with the stack, also when its opening fails half-way."""
    stack.push_async_callback(app.close)
    await app.open()
