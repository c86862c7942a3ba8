"""Composes a compressor: a server for the contract."""

from __future__ import annotations

from hola.config import Settings
from hola.rpc.server import RpcServer, RpcService
from hola.telemetry import Metrics
from hola.v1 import compressor_pb2, compressor_pb2_grpc
from hola_compressor.servicer import CompressorServicer


class CompressorApp:
    """One compressor process, or its services inside a node."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._server = RpcServer(settings.listen_on("compressor"), self.services, settings, metrics)

    @property
    def address(self) -> str:
        """Where it serves, after `start`."""
        return self._server.address

    @property
    def services(self) -> tuple[RpcService, ...]:
        """What to serve."""
        add = compressor_pb2_grpc.add_CompressorServiceServicer_to_server
        return (RpcService(compressor_pb2.DESCRIPTOR, add, CompressorServicer()),)

    async def start(self) -> None:
        """Serve. Raises ConfigError."""
        await self._server.start()

    async def wait(self) -> None:
        """Return when the server has stopped."""
        await self._server.wait()

    async def stop(self) -> None:
        """Refuse new calls and drain. Idempotent."""
        await self._server.stop()


def build(settings: Settings, metrics: Metrics | None = None) -> CompressorApp:
    """A compressor; nothing is bound before `start`."""
    return CompressorApp(settings, metrics or Metrics())
