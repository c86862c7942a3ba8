"""A plaintext port that answers health checks and nothing else, for probes that speak no TLS."""

from __future__ import annotations

import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from hola.config import Settings
from hola.errors import ConfigError
from hola.rpc.channel import parse_address

_MAX_CALLS = 64
_MAX_CONNECTIONS = 256
_MAX_MESSAGE_BYTES = 4096


class HealthPort:
    """Serves `health` on HOLA_HEALTH_LISTEN; nothing where that is empty."""

    def __init__(self, health: health_aio.HealthServicer, settings: Settings) -> None:
        """Nothing is bound yet. Raises ConfigError on a malformed address."""
        self._health = health
        self._settings = settings
        self._target = parse_address(listen).target if (listen := settings.health_listen) else ""
        self._server: grpc.aio.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port in use; 0 without one."""
        return self._port

    async def start(self) -> None:
        """Bind and serve. Raises ConfigError when the address cannot be bound."""
        if not self._target:
            return
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_allowed_incoming_connections", _MAX_CONNECTIONS),
                ("grpc.max_connection_idle_ms", int(self._settings.connection_idle_s * 1000)),
                ("grpc.server_handshake_timeout_ms", int(self._settings.connect_timeout_s * 1000)),
            ],
            maximum_concurrent_rpcs=_MAX_CALLS,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        try:
            self._port = server.add_insecure_port(self._target)
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen on {self._target}: {error}", variable="HOLA_HEALTH_LISTEN"
            ) from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Hang up. Idempotent."""
        if self._server is not None:
            await self._server.stop(0)
