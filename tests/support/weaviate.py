"""A Weaviate server in this process: REST and gRPC on loopback ports, its objects in memory.

It can die in the middle of a write and come back, hang, refuse keys and answer garbage.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc
from weaviate.proto.v1 import weaviate_pb2_grpc

from hola.retrieval.weaviate_connect import WeaviateAddress, WeaviateConnection
from hola.retrieval.weaviate_schema import Names
from tests.support.weaviate_grpc import Died, Gate, Service
from tests.support.weaviate_memory import Memory, Refused, Stored

VERSION = "1.36.0"
API_KEY, READ_ONLY_KEY = "right-key", "read-key"


class WeaviateServer(Gate):
    """Start it, point a store at `url`, and turn its knobs.

    `memory` outlives `kill` and `start`. `keys`: whether a key is wanted. `hang`: requests wait for
    it. `writes_left`: objects it writes or removes before it dies, None for any number.
    `garbage`: what every REST request gets, None for an answer. `once`: what to do before the next
    request of a name.
    """

    def __init__(self) -> None:
        self.memory = Memory()
        self.keys = False
        self.hang: asyncio.Event | None = None
        self.writes_left: int | None = None
        self.garbage: bytes | None = None
        self.once: dict[str, Callable[[], Awaitable[None]]] = {}
        self.requests: list[str] = []
        self.dying: asyncio.Task[None] | None = None
        self.rest_port = self.grpc_port = 0
        self._grpc: grpc.aio.Server | None = None
        self._rest: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"weaviate://127.0.0.1:{self.rest_port}?grpc={self.grpc_port}"

    async def start(self) -> None:
        """Serve, on the ports it had before if there were any."""
        self._rest = await asyncio.start_server(self._serve, "127.0.0.1", self.rest_port)
        self.rest_port = self._rest.sockets[0].getsockname()[1]
        await self.start_grpc()

    async def start_grpc(self) -> None:
        self._grpc = grpc.aio.server()
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(Service(self.memory, self), self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), self._grpc)
        self.grpc_port = self._grpc.add_insecure_port(f"127.0.0.1:{self.grpc_port}")
        await self._grpc.start()

    async def kill(self) -> None:
        """Hang up on everybody and serve no more. Idempotent."""
        rest, self._rest = self._rest, None
        if rest is not None:
            rest.close()
            for writer in list(self._open):
                writer.transport.abort()
            await rest.wait_closed()
        await self.kill_grpc()

    async def kill_meanwhile(self) -> None:
        """Die in the middle of the request that this is called in; for `once`."""
        self.dying = asyncio.create_task(self.kill())
        await asyncio.Event().wait()

    async def kill_grpc(self) -> None:
        if self._grpc is not None:
            await self._grpc.stop(None)
            self._grpc = None

    async def enter(self, method: str, headers: dict[str, str], *, writes: bool) -> None:
        self.requests.append(method)
        if self.hang is not None:
            await self.hang.wait()
        if (then := self.once.pop(method, None)) is not None:
            await then()
        if self.writes_left is not None and self.writes_left < 0:
            raise Died
        if not self.keys:
            return
        key = headers.get("authorization", "").removeprefix("Bearer ")
        if key not in (API_KEY, READ_ONLY_KEY):
            raise Refused("anonymous access not enabled", 401)
        if writes and key == READ_ONLY_KEY:
            raise Refused("rbac: authorization, forbidden action", 403)

    async def before_write(self) -> None:
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                raise Died

    def revive(self) -> None:
        """After it died: answer again, with what had been written by then."""
        self.writes_left = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while line := await reader.readline():
                method, target, _ = line.decode("ascii").split()
                headers: dict[str, str] = {}
                while (header := (await reader.readline()).decode("latin-1").strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                writer.write(await self._response(method, target, headers, body))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # hung up
        finally:
            self._open.discard(writer)
            writer.close()

    async def _response(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> bytes:
        parts = urlsplit(target)
        try:
            await self.enter(f"{method} {parts.path}", headers, writes=method != "GET")
            content = json.loads(body) if body else None
            status, answer = await self._rest_answer(
                method, parts.path.removeprefix("/v1/").split("/"), parts.query, content
            )
        except Refused as refused:
            status, answer = refused.status, {"error": [{"message": str(refused)}]}
        except Died:
            raise ConnectionResetError from None
        data = b"" if answer is None else json.dumps(answer).encode()
        if self.garbage is not None:
            status, data = 200, self.garbage
        head = f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data

    async def _rest_answer(
        self, method: str, path: list[str], query: str, content: Any
    ) -> tuple[int, Any]:
        match method, path:
            case "GET", ["meta"]:
                return 200, {"version": VERSION, "hostname": self.url, "modules": {}}
            case _, ["schema", *rest]:
                return self._schema(method, rest, content)
            case "POST", ["objects"]:
                return await self._insert(content)
            case "DELETE", ["objects", name, id_]:
                tenant = parse_qs(query).get("tenant", [""])[0]
                await self.before_write()
                gone = self.memory.shard(name, tenant).pop(UUID(id_), None)
                return (404 if gone is None else 204), None
        return 404, {"error": [{"message": f"no {method} of {'/'.join(path)}"}]}

    def _schema(self, method: str, path: list[str], content: Any) -> tuple[int, Any]:
        match method, path:
            case "GET", [name] if name in self.memory.definitions:
                return 200, self.memory.definitions[name]
            case "POST", []:
                self.memory.define(content)
                return 200, content
            case "POST", [name, "tenants"]:
                for tenant in content:
                    self.memory.add_tenant(name, tenant["name"])
                return 200, content
            case "DELETE", [name, "tenants"]:
                for tenant in content:
                    self.memory.remove_tenant(name, tenant)
                return 200, None
            case "DELETE", [name]:
                self.memory.undefine(name)
                return 200, None
        return 404, {"error": [{"message": "no such collection"}]}

    async def _insert(self, content: Any) -> tuple[int, Any]:
        name, tenant, id_ = content["class"], content.get("tenant", ""), UUID(content["id"])
        if id_ in self.memory.shard(name, tenant):
            raise Refused(f"id '{id_}' already exists")
        await self.before_write()
        self.memory.write(name, tenant, Stored(id_, content["properties"]))
        return 200, content


@asynccontextmanager
async def running_weaviate() -> AsyncIterator[WeaviateServer]:
    """A server for the time of the block."""
    server = WeaviateServer()
    # The client makes a TLS context for each plaintext connection as well, in 100 ms.
    with patch("httpx._transports.default.create_ssl_context", _tls_context):
        await server.start()
        try:
            yield server
        finally:
            await server.kill()


@contextmanager
def weaviate_beside() -> Iterator[WeaviateServer]:
    """A server on a thread of its own, for tests of commands, which run loops of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="weaviate")
    thread.start()
    server = WeaviateServer()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(60)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.kill(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


@cache
def _tls_context(**_: object) -> ssl.SSLContext:
    return ssl.create_default_context()


async def remove_collections(address: WeaviateAddress, key_file: str = "") -> None:
    """Leave nothing under an address's prefix."""
    connection = WeaviateConnection(address, key_file=key_file, timeout_s=60)
    names = Names(address.prefix)
    for name in (names.catalog, names.documents, names.chunks):
        await connection.call(lambda client, name=name: client.collections.delete(name))
    await connection.close()
