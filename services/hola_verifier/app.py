"""Composes a verifier: target, engine worker, sessions, server; and takes them apart in order."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from hola.bus.from_settings import bus_from
from hola.bus.ports import Bus
from hola.config import Settings
from hola.engines.memory import available_bytes
from hola.engines.worker import EngineWorker
from hola.errors import MemoryBudgetExceeded
from hola.rpc.server import RpcServer, RpcService
from hola.telemetry import Metrics, get_logger
from hola.v1 import verifier_pb2, verifier_pb2_grpc
from hola_verifier.announce import Announcer
from hola_verifier.host import Limits, VerifierHost
from hola_verifier.local import LocalVerifier
from hola_verifier.servicer import VerifierServicer
from hola_verifier.target import Target, load_target

log = get_logger(__name__)

_MIB = 2**20
_DEFAULT_SHARE = 0.5
# A session whose stream has been silent for this share of its time may have to make room.
_SPARE_SHARE = 0.25
# The record is taken back even where HOLA_DRAIN_S allows no time at all.
_WITHDRAW_S = 0.5


class VerifierApp:
    """One verifier process, or one verifier inside a node (`open`, `port`, `close`)."""

    def __init__(
        self, settings: Settings, metrics: Metrics, target: Target | None, bus: Bus | None
    ) -> None:
        self._settings = settings
        self.metrics = metrics
        self._target = target
        self._bus = bus
        self._opened = AsyncExitStack()
        self._announcer: Announcer | None = None
        self._announcing: asyncio.Task[None] | None = None
        self._host: VerifierHost | None = None
        self._server: RpcServer | None = None

    @property
    def host(self) -> VerifierHost:
        """The sessions, after `open`."""
        if self._host is None:
            raise RuntimeError("the verifier is not open")
        return self._host

    @property
    def port(self) -> LocalVerifier:
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
            opening_s=self._settings.rpc_timeout_s,
            spare_s=self._settings.session_ttl_s * _SPARE_SHARE,
            queue_limit=self._settings.queue_limit,
        )
        self._host = VerifierHost(target, worker, limits, metrics=self.metrics)
        self._opened.push_async_callback(self._host.close, max(1.0, self._settings.drain_s))
        sweeper = asyncio.create_task(self._host.run())
        self._opened.callback(sweeper.cancel)

    async def start(self) -> None:
        """`open`, then serve, then announce it where HOLA_ADVERTISE says so."""
        await self.open()
        listen = self._settings.listen_on("verifier")
        self._server = RpcServer(listen, self.services, self._settings, self.metrics)
        await self._server.start()
        if self._settings.advertise:
            self._announce()

    async def wait(self) -> None:
        """Return when the server has stopped; raises what ended the announcements."""
        if self._server is None:
            return
        serving = asyncio.create_task(self._server.wait())
        try:
            ends = {serving} if self._announcing is None else {serving, self._announcing}
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            serving.cancel()

    async def stop(self) -> None:
        """Hand the sessions over and end, within HOLA_DRAIN_S; then `close`. Idempotent.

        Health says NOT_SERVING and the registry forgets this verifier first; its streams end with
        SESSION_MOVED, those with an answer under way after it.
        """
        if self._server is not None:
            loop = asyncio.get_running_loop()
            ends_at = loop.time() + self._settings.drain_s
            await self._server.leave()
            await asyncio.gather(self._withdraw(), self.host.door.drain(self._settings.drain_s))
            await self._server.stop(max(0.0, ends_at - loop.time()))
        await self.close()

    async def close(self) -> None:
        """Free the sessions, end the worker, free the weights that `open` loaded. Idempotent."""
        await self._opened.aclose()

    def _announce(self) -> None:
        async def open_bus() -> Bus:
            return self._bus or await bus_from(self._settings)

        self._announcer = Announcer(self._settings.advertise, self.host.info, open_bus)
        if self._bus is None:
            self._opened.push_async_callback(self._announcer.close)
        self._announcing = asyncio.create_task(self._announcer.run())
        self._opened.push_async_callback(self._end, self._announcing)

    async def _withdraw(self) -> None:
        """Whatever the bus does: a verifier that stops must not wait for it."""
        if self._announcer is None:
            return
        try:
            async with asyncio.timeout(max(_WITHDRAW_S, self._settings.drain_s)):
                await self._announcer.withdraw()
        except TimeoutError:
            log.warning("not_withdrawn", why="the bus did not answer in time")

    @staticmethod
    async def _end(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

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
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    target: Target | None = None,
    bus: Bus | None = None,
) -> VerifierApp:
    """A verifier with its production parts; a given target or bus is used and not closed."""
    return VerifierApp(settings, metrics or Metrics(), target, bus)


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
