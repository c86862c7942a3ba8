"""Composes a verifier: target, engine worker, sessions, server; and takes them apart in order."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from hola.config import Settings
from hola.engines.memory import available_bytes
from hola.engines.worker import EngineWorker
from hola.errors import MemoryBudgetExceeded
from hola.ports import VerifierPort
from hola.rpc.server import RpcServer, RpcService
from hola.telemetry import Metrics, get_logger
from hola.v1 import verifier_pb2, verifier_pb2_grpc
from hola_verifier.host import Limits, VerifierHost
from hola_verifier.local import LocalVerifier
from hola_verifier.servicer import VerifierServicer
from hola_verifier.target import Target, load_target

log = get_logger(__name__)

_MIB = 2**20
_DEFAULT_SHARE = 0.5


class VerifierApp:
    """One verifier process, or one verifier inside a node (`open`, `port`, `close`)."""

    def __init__(self, settings: Settings, metrics: Metrics, target: Target | None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._target = target
        self._opened = AsyncExitStack()
        self._host: VerifierHost | None = None
        self._server: RpcServer | None = None

    @property
    def host(self) -> VerifierHost:
        """The sessions, after `open`."""
        if self._host is None:
            raise RuntimeError("the verifier is not open")
        return self._host

    @property
    def port(self) -> VerifierPort:
        """A way to this verifier that needs no wire, after `open`."""
        return LocalVerifier(self.host)

    @property
    def address(self) -> str:
        """Where it serves, after `start`."""
        return "" if self._server is None else self._server.address

    @property
    def services(self) -> tuple[RpcService, ...]:
        """What to serve, after `open`."""
        servicer = VerifierServicer(self.host)
        add = verifier_pb2_grpc.add_VerifierServiceServicer_to_server
        return (RpcService(verifier_pb2.DESCRIPTOR, add, servicer),)

    async def open(self) -> None:
        """Load and probe the target on its worker. Raises what `load_target` raises."""
        worker = EngineWorker("target")
        self._opened.push_async_callback(worker.close, self._settings.drain_s)
        target = self._target or await self._load(worker)
        limits = Limits(
            max_sessions=self._settings.max_sessions,
            kv_budget_bytes=kv_budget_bytes(self._settings, target.engine.info.weight_bytes),
            ttl_s=self._settings.session_ttl_s,
            queue_limit=self._settings.queue_limit,
        )
        self._host = VerifierHost(target, worker, limits, metrics=self._metrics)
        self._opened.push_async_callback(self._host.close, max(1.0, self._settings.drain_s))
        sweeper = asyncio.create_task(self._host.run())
        self._opened.callback(sweeper.cancel)

    async def start(self) -> None:
        """`open`, then serve."""
        await self.open()
        listen = self._settings.listen_on("verifier")
        self._server = RpcServer(listen, self.services, self._settings, self._metrics)
        await self._server.start()

    async def wait(self) -> None:
        """Return when the server has stopped."""
        if self._server is not None:
            await self._server.wait()

    async def stop(self) -> None:
        """Refuse new calls, drain, then `close`. Idempotent."""
        if self._server is not None:
            await self._server.stop()
        await self.close()

    async def close(self) -> None:
        """Free the sessions, end the worker, free the weights that `open` loaded. Idempotent."""
        await self._opened.aclose()

    async def _load(self, worker: EngineWorker) -> Target:
        loaded = await worker.run(lambda: load_target(self._settings))
        target = loaded.value
        self._opened.callback(target.engine.close)
        log.info(
            "target_loaded",
            model=target.model,
            fingerprint=target.digest,
            exactness=target.exactness.name,
            why=target.fingerprint.reason,
            seconds=round(loaded.compute_ns / 1e9, 2),
        )
        return target


def build(
    settings: Settings, metrics: Metrics | None = None, *, target: Target | None = None
) -> VerifierApp:
    """A verifier with its production parts; a given target is used and not closed."""
    return VerifierApp(settings, metrics or Metrics(), target)


def kv_budget_bytes(settings: Settings, weight_bytes: int) -> int:
    """What all KV caches may take together.

    HOLA_MEMORY_BUDGET_MB without the weights; where that is 0, half of the memory free now. Raises
    MemoryBudgetExceeded when the weights leave nothing.
    """
    if settings.memory_budget_mb == 0:
        return int((available_bytes() or 2**40) * _DEFAULT_SHARE)
    budget = settings.memory_budget_mb * _MIB
    if weight_bytes >= budget:
        raise MemoryBudgetExceeded(
            f"the weights take {weight_bytes} bytes, HOLA_MEMORY_BUDGET_MB allows {budget}",
            needed_bytes=weight_bytes,
            available_bytes=budget,
        )
    return budget - weight_bytes
