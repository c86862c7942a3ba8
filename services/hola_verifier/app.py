"""Composes a verifier: target, engine worker, sessions, server; and takes them apart in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial

from hola.bus.ports import Bus
from hola.config import Settings
from hola.engines import SCRIPTED_PREFIX
from hola.engines.memory import available_bytes
from hola.engines.worker import EngineWorker
from hola.errors import HolaError, MemoryBudgetExceeded
from hola.models.store import ModelStore
from hola.models.watch import FamilyWatch
from hola.ports import Engine
from hola.rpc.server import RpcServer, RpcService
from hola.telemetry import Metrics, get_logger
from hola.v1 import verifier_pb2, verifier_pb2_grpc
from hola_verifier.announce import Announcer
from hola_verifier.host import Limits, VerifierHost
from hola_verifier.hosts import Free, Hosts
from hola_verifier.late_bus import LateBus
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
_SWEEPS_PER_TTL = 4
# A new artifact is loaded when nothing runs, or after so long; one that could not be, again.
_QUIET_WAIT_S = 10.0
_RETRY_S = 30.0
_LOOK_S = 0.1


class VerifierApp:
    """One verifier process, or one verifier inside a node (`open`, `port`, `close`)."""

    def __init__(
        self, settings: Settings, metrics: Metrics, target: Target | None, bus: Bus | None
    ) -> None:
        self._settings = settings
        self.metrics = metrics
        self._target = target
        self._bus = LateBus(settings, bus)
        self._opened = AsyncExitStack()
        self._announcer: Announcer | None = None
        self._announcing: asyncio.Task[None] | None = None
        self._hosts: Hosts | None = None
        self._server: RpcServer | None = None

    @property
    def host(self) -> VerifierHost:
        """The host that new sessions get, after `open`."""
        return self.hosts.current

    @property
    def hosts(self) -> Hosts:
        """The sessions, after `open`."""
        if self._hosts is None:
            raise RuntimeError("the verifier is not open")
        return self._hosts

    @property
    def port(self) -> LocalVerifier:
        """A way to this verifier that needs no wire, after `open`."""
        return LocalVerifier(self.hosts)

    @property
    def address(self) -> str:
        """Where it serves, after `start`."""
        return "" if self._server is None else self._server.address

    @property
    def services(self) -> tuple[RpcService, ...]:
        """What to serve, after `open`."""
        servicer = VerifierServicer(self.hosts)
        add = verifier_pb2_grpc.add_VerifierServiceServicer_to_server
        return (RpcService(verifier_pb2.DESCRIPTOR, add, servicer),)

    async def open(self) -> None:
        """Load and probe the target on its worker. Raises what `load_target` raises."""
        host, free = await self._new_host()
        self._opened.push_async_callback(self._bus.close)  # after those who use it have ended
        self._hosts = Hosts(host, free, self.metrics)
        self._opened.push_async_callback(self._hosts.close, max(1.0, self._settings.drain_s))
        self._run_beside(self._sweep(self._hosts))
        if self._target is None and not self._settings.model.startswith(SCRIPTED_PREFIX):
            self._run_beside(self._renew(self._hosts))

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
        advertise, get_bus = self._settings.advertise, self._bus.get
        self._announcer = Announcer(advertise, lambda: self.host.info(), get_bus)
        self._announcing = asyncio.create_task(self._announcer.run())
        self._opened.push_async_callback(self._end, self._announcing)

    async def _withdraw(self) -> None:
        """Whatever the bus does: a verifier that stops must not wait for it."""
        announcer, self._announcer = self._announcer, None
        if announcer is None:
            return
        try:
            async with asyncio.timeout(max(_WITHDRAW_S, self._settings.drain_s)):
                await announcer.withdraw()
        except TimeoutError:
            log.warning("not_withdrawn", why="the bus did not answer in time")

    @staticmethod
    async def _end(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _host_of(self, target: Target, worker: EngineWorker) -> VerifierHost:
        settings = self._settings
        limits = Limits(
            max_sessions=settings.max_sessions,
            kv_budget_bytes=kv_budget_bytes(settings, target.engine.info.weight_bytes),
            ttl_s=settings.session_ttl_s,
            opening_s=settings.rpc_timeout_s,
            spare_s=settings.session_ttl_s * _SPARE_SHARE,
            queue_limit=settings.queue_limit,
        )
        door = self._hosts.door if self._hosts else None
        return VerifierHost(target, worker, limits, metrics=self.metrics, door=door)

    def _run_beside(self, work: Coroutine[None, None, None]) -> None:
        """Run it until `close`."""
        self._opened.push_async_callback(self._end, asyncio.create_task(work))

    async def _sweep(self, hosts: Hosts) -> None:
        """Free idle sessions until cancelled."""
        while True:
            await asyncio.sleep(self._settings.session_ttl_s / _SWEEPS_PER_TTL)
            for host in hosts.all:
                host.sweep()

    async def _renew(self, hosts: Hosts) -> None:
        """Load what the family's target becomes, until cancelled.

        An artifact that cannot be loaded, or not beside the present one, is tried again later.
        """
        store = ModelStore.at(self._settings.models_dir)
        watch = FamilyWatch(store, self._settings.model, self._bus)
        while True:
            await watch.changed(
                lambda family: (family.target.digest,), (self.host.info().artifact_digest,)
            )
            await self._quiet_moment(hosts)
            try:
                await self._swap(hosts)
            except HolaError as error:
                log.warning("artifact_not_loaded", reason=error.reason, message=error.message)
                await asyncio.sleep(_RETRY_S)

    async def _quiet_moment(self, hosts: Hosts) -> None:
        """Until nothing runs; under steady load there is none, and then after _QUIET_WAIT_S."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_QUIET_WAIT_S):
                while hosts.current.busy:  # noqa: ASYNC110 - streams come and go at any time
                    await asyncio.sleep(_LOOK_S)

    async def _swap(self, hosts: Hosts) -> None:
        """Load the new target on a thread of its own, beside the one that goes on serving."""
        host, free = await self._new_host()
        hosts.swap(host, free, kept_s=self._settings.session_ttl_s)

    async def _new_host(self) -> tuple[VerifierHost, Free]:
        """A host on a worker of its own, and what lets go of both and of a target we loaded."""
        worker, engine = EngineWorker("target"), None
        try:
            target = self._target or await self._load(worker)
            engine = None if self._target else target.engine
            host = self._host_of(target, worker)
        except BaseException:
            await _let_go(worker, engine, 0.0)
            raise
        return host, partial(_let_go, worker, engine, self._settings.drain_s)

    async def _load(self, worker: EngineWorker) -> Target:
        loaded = await worker.run(lambda: load_target(self._settings))
        target = loaded.value
        log.info(
            "target_loaded",
            model=target.model,
            fingerprint=target.digest,
            exactness=target.exactness.name,
            why=target.fingerprint.reason,
            seconds=round(loaded.compute_ns / 1e9, 2),
        )
        return target


async def _let_go(worker: EngineWorker, engine: Engine | None, drain_s: float) -> None:
    await worker.close(drain_s)
    if engine is not None:
        engine.close()


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
