"""A grpc.aio server: encrypted, gated, limited, with health, reflection and an orderly stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import OVERALL_HEALTH, SERVICE_NAME as HEALTH_NAME, aio as health_aio
from grpc_reflection.v1alpha import reflection

from hola.config import Settings
from hola.errors import ConfigError
from hola.rpc.channel import Address, common_options, parse_address
from hola.rpc.gate import Gate, asks_certificates, takes_tokens
from hola.rpc.health_port import HealthPort
from hola.rpc.interceptors import CallInterceptor, Patience
from hola.security.authenticate import Authenticator
from hola.security.tls import server_credentials, serves_tls
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
        """Nothing is bound yet. Reads the files of clients' keys.

        Raises ConfigError as `listen_address` does and on files that cannot be used, MissingExtra
        where signed tokens need one.
        """
        self._where = listen_address(listen, settings)
        self._services = tuple(services)
        self._names = [name for service in self._services for name in service.names]
        self._settings = settings
        self._metrics = metrics
        self._authenticator = Authenticator(
            settings, takes_tokens=takes_tokens(self._names, settings)
        )
        self._encrypted = serves_tls(settings) and not self._where.is_socket_file
        self._health = health_aio.HealthServicer()
        self._health_port = HealthPort(self._health, settings)
        self._server: grpc.aio.Server | None = None
        self._stopped = asyncio.Event()
        self._address = ""

    @property
    def address(self) -> str:
        """What clients connect to, with the port in use; empty before `start`."""
        return self._address

    @property
    def health_port(self) -> int:
        """The port of the plaintext health service after `start`; 0 without one."""
        return self._health_port.port

    async def start(self) -> None:
        """Bind and serve. Raises ConfigError when an address or a certificate cannot be used."""
        gate = Gate(self._authenticator, self._settings.max_calls_per_tenant)
        patience = Patience(self._settings.rpc_timeout_s, self._settings.unread_s)
        server = grpc.aio.server(
            interceptors=[CallInterceptor(self._metrics, gate, patience)],
            options=self._options(),
            maximum_concurrent_rpcs=self._settings.max_calls,
        )
        for service in self._services:
            service.add(service.servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._settings.reflection or not self._knows_callers():
            shown = [*self._names, HEALTH_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(shown, server)
        port = await self._bind(server)
        await server.start()
        self._server = server
        self._address = _reachable(self._where.target, port, encrypted=self._encrypted)
        for name in (OVERALL_HEALTH, *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._health_port.start()
        log.info(
            "serving",
            address=self._address,
            services=self._names,
            encrypted=self._encrypted,
            callers_known=self._knows_callers(),
        )

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
        try:
            await self._server.stop(self._settings.drain_s if grace_s is None else grace_s)
        finally:
            await self._health_port.stop()
        self._stopped.set()

    async def _bind(self, server: grpc.aio.Server) -> int:
        """The port in use."""
        try:
            if not self._encrypted:
                return server.add_insecure_port(self._where.target)
            asks = asks_certificates(self._names, self._settings)
            shown = await asyncio.to_thread(server_credentials, self._settings, ask_callers=asks)
            return server.add_secure_port(self._where.target, shown)
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen on {self._where.target}: {error}", variable="HOLA_LISTEN"
            ) from error

    def _knows_callers(self) -> bool:
        """Whether a call without any credential is refused."""
        certificates = self._encrypted and asks_certificates(self._names, self._settings)
        return certificates or self._authenticator.asks

    def _options(self) -> list[tuple[str, int | str]]:
        return [
            *common_options(self._settings),
            ("grpc.so_reuseport", 0),
            # Who connects and then says nothing, in TLS or HTTP/2, is cut off.
            ("grpc.server_handshake_timeout_ms", int(self._settings.connect_timeout_s * 1000)),
            ("grpc.max_allowed_incoming_connections", self._settings.max_connections),
            ("grpc.max_connection_age_ms", int(self._settings.connection_age_s * 1000)),
            ("grpc.max_connection_idle_ms", int(self._settings.connection_idle_s * 1000)),
            # Clients ping this often; without it the server calls that abuse and hangs up.
            ("grpc.http2.min_ping_interval_without_data_ms", 500),
            ("grpc.http2.max_ping_strikes", 0),
        ]


def listen_address(listen: str, settings: Settings) -> Address:
    """Where to listen. Raises ConfigError when malformed, or reachable by others unencrypted.

    Only HOLA_INSECURE=1 allows plaintext on an address that other machines can reach. TLS that is
    set up halfway is an error wherever the server listens.
    """
    where = parse_address(listen)
    encrypted = serves_tls(settings)
    if where.secure and not encrypted:
        raise ConfigError(
            f"HOLA_LISTEN={listen} needs HOLA_TLS_CERT, HOLA_TLS_KEY and HOLA_TLS_CA",
            variable="HOLA_LISTEN",
            value=listen,
        )
    if not (where.local or encrypted or settings.insecure):
        raise ConfigError(
            f"HOLA_LISTEN={listen} can be reached from other machines without encryption: set"
            " HOLA_TLS_CERT, HOLA_TLS_KEY and HOLA_TLS_CA, use a loopback or unix: address, or set"
            " HOLA_INSECURE=1 in a trusted network",
            variable="HOLA_LISTEN",
            value=listen,
        )
    return where


def _reachable(target: str, port: int, *, encrypted: bool) -> str:
    if target.startswith("unix:"):
        return "unix://" + target.removeprefix("unix:")
    scheme = "grpcs" if encrypted else "grpc"
    return f"{scheme}://{target.rpartition(':')[0]}:{port}"
