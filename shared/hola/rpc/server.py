"""A grpc.aio server with health, reflection, error mapping, limits and an orderly stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import OVERALL_HEALTH
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from hola.config import Settings
from hola.errors import ConfigError
from hola.rpc.channel import Address, common_options, parse_address
from hola.rpc.interceptors import CallInterceptor
from hola.telemetry import Metrics, get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RpcService:
    """A servicer to serve: the proto file that declares it and the generated add function.

    `RpcService(verifier_pb2.DESCRIPTOR, add_VerifierServiceServicer_to_server, servicer)`.
    """

    descriptor: FileDescriptor
    add: Callable[[Any, grpc.aio.Server], None]
    servicer: object

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of the file's services, e.g. hola.v1.VerifierService."""
        return tuple(service.full_name for service in self.descriptor.services_by_name.values())


class RpcServer:
    """Serves `services` on `listen`; health is SERVING from `start` to `stop`."""

    def __init__(
        self, listen: str, services: Sequence[RpcService], settings: Settings, metrics: Metrics
    ) -> None:
        """Nothing is bound yet. Raises ConfigError as `listen_address` does."""
        self._where = listen_address(listen, settings)
        self._services = tuple(services)
        self._settings = settings
        self._metrics = metrics
        self._health = health_aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._stopped = asyncio.Event()
        self._address = ""

    @property
    def address(self) -> str:
        """What clients connect to, with the port in use; empty before `start`."""
        return self._address

    async def start(self) -> None:
        """Bind and serve. Raises ConfigError when the address cannot be bound."""
        server = grpc.aio.server(
            interceptors=[CallInterceptor(self._metrics)],
            options=self._options(),
            maximum_concurrent_rpcs=self._settings.max_calls,
        )
        for service in self._services:
            service.add(service.servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [name for service in self._services for name in service.names]
        reflection.enable_server_reflection([*names, HEALTH_NAME, reflection.SERVICE_NAME], server)
        try:
            port = server.add_insecure_port(self._where.target)
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen on {self._where.target}: {error}", variable="HOLA_LISTEN"
            ) from error
        await server.start()
        self._server = server
        self._address = _reachable(self._where.target, port)
        for name in (OVERALL_HEALTH, *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", address=self._address, services=names)

    async def wait(self) -> None:
        """Return when the server has stopped."""
        # grpc's own wait_for_termination breaks its stop() when the waiter is cancelled.
        await self._stopped.wait()

    async def leave(self) -> None:
        """Say NOT_SERVING and go on serving, until `stop`: new callers go elsewhere. Idempotent."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_s: float | None = None) -> None:
        """Say NOT_SERVING, refuse new calls, wait for running ones (HOLA_DRAIN_S), cut the rest.

        Idempotent.
        """
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.drain_s if grace_s is None else grace_s)
        self._stopped.set()

    def _options(self) -> list[tuple[str, int | str]]:
        return [
            *common_options(self._settings),
            ("grpc.so_reuseport", 0),
            # Clients ping this often; without it the server calls that abuse and hangs up.
            ("grpc.http2.min_ping_interval_without_data_ms", 500),
            ("grpc.http2.max_ping_strikes", 0),
        ]


def listen_address(listen: str, settings: Settings) -> Address:
    """Where to listen. Raises ConfigError when malformed, or reachable by others unencrypted.

    Only HOLA_INSECURE=1 allows plaintext on an address that other machines can reach.
    """
    where = parse_address(listen)
    if not (where.local or settings.insecure):
        raise ConfigError(
            f"HOLA_LISTEN={listen} can be reached from other machines without encryption:"
            " use a loopback or unix: address, or set HOLA_INSECURE=1 in a trusted network",
            variable="HOLA_LISTEN",
            value=listen,
        )
    return where


def _reachable(target: str, port: int) -> str:
    if target.startswith("unix:"):
        return "unix://" + target.removeprefix("unix:")
    return f"grpc://{target.rpartition(':')[0]}:{port}"
