"""A Weaviate server: its address, one connection to it, deadlines, and its errors as ours."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import grpc
import grpc.aio
import httpx
import weaviate
from grpc_health.v1 import health_pb2
from weaviate.auth import Auth
from weaviate.config import AdditionalConfig, GrpcConfig, Timeout
from weaviate.connect import ConnectionParams
from weaviate.exceptions import UnexpectedStatusCodeError

from hola.errors import ConfigError, StoreUnavailable
from hola.rpc.channel import parse_address

FORM = "weaviate://HOST[:PORT][/PREFIX][?grpc=[HOST:]PORT] or weaviates://..."
DEFAULT_PREFIX = "Hola"
OLDEST = (1, 29)  # counts over gRPC, and vectors in the form that is sent
_PORTS = {"weaviate": 8080, "weaviates": 443}
_GRPC_PORT = 50051
_PREFIX = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_HEALTH = "/grpc.health.v1.Health/Check"
_CLIENT_LOGGER = "weaviate-client"
# The client reads proxies from the environment but not what they are not for, such as localhost.
_NO_PROXY = [("grpc.enable_http_proxy", 0)]
_SHOWN_CHARS = 300
_REFUSED = {401, grpc.StatusCode.UNAUTHENTICATED}
_SILENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
_FORBIDDEN = {403, grpc.StatusCode.PERMISSION_DENIED}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeaviateAddress:
    """Where a server's REST and gRPC ports are, and what our collections' names begin with there.

    `secure`: both are TLS, with certificates of public authorities.
    """

    host: str
    port: int
    grpc_host: str
    grpc_port: int
    secure: bool
    prefix: str = DEFAULT_PREFIX

    @property
    def local(self) -> bool:
        """True when what is sent does not leave this machine."""
        return all(
            parse_address(f"{_bracketed(host)}:1").local for host in (self.host, self.grpc_host)
        )

    def __str__(self) -> str:
        return f"{_bracketed(self.host)}:{self.port}"


def parse_weaviate(text: str) -> WeaviateAddress:
    """Read a HOLA_STORE that begins with weaviate:// or weaviates://.

    Raises ConfigError with the expected form; a key written into the address is not repeated.
    """
    try:
        parts = urlsplit(text)
        asked = parse_qs(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True)
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
        grpc_host, _, grpc_port = asked.pop("grpc", [str(_GRPC_PORT)])[0].rpartition(":")
        prefix = parts.path.strip("/") or DEFAULT_PREFIX
        number = int(grpc_port)
    except (ValueError, KeyError) as error:
        raise _malformed("it cannot be read") from error
    host = parts.hostname or ""
    if parts.username is not None or parts.password is not None:
        raise _malformed("an API key belongs into the file HOLA_STORE_KEY_FILE names")
    if not host or asked or parts.fragment or not port or not 0 < number < 65536:
        raise _malformed("host, port or query is wrong")
    if not _PREFIX.fullmatch(prefix):
        raise _malformed("PREFIX is letters and digits and begins with a capital")
    address = WeaviateAddress(
        host=host,
        port=port,
        grpc_host=grpc_host.strip("[]") or host,
        grpc_port=number,
        secure=parts.scheme == "weaviates",
        prefix=prefix,
    )
    if (address.host, address.port) == (address.grpc_host, address.grpc_port):
        raise _malformed("REST and gRPC cannot have one port")
    return address


class WeaviateConnection:
    """Connects at the first call; every call has a deadline and raises StoreUnavailable alone.

    A request whose key is refused is sent again if its file holds another one by now.
    """

    def __init__(self, address: WeaviateAddress, *, key_file: str, timeout_s: float) -> None:
        """Nothing is reached yet. `key_file` "": no key is shown."""
        self.address = address
        self._key_file = key_file
        self._key = ""
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._client: weaviate.WeaviateAsyncClient | None = None
        self._closed = False

    async def call(self, work: Callable[[weaviate.WeaviateAsyncClient], Awaitable[T]]) -> T:
        """The result of one request. Raises StoreUnavailable, ConfigError for a bad key file."""
        try:
            return await self._once(work)
        except StoreUnavailable as error:
            if _status(error) not in _REFUSED or self._read_key() == self._key:
                raise
        return await self._once(work)

    async def _once(self, work: Callable[[weaviate.WeaviateAsyncClient], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                client = self._client or await self._connected()
                return await work(client)
        except (StoreUnavailable, ConfigError):
            raise
        except Exception as error:  # the client lets those of four libraries through
            raise await self._translated(error) from error

    async def close(self) -> None:
        """Idempotent."""
        self._closed = True
        await self._disconnect()

    async def _connected(self) -> weaviate.WeaviateAsyncClient:
        async with self._lock:
            self._check_open()
            if self._client is None:
                client = self._new_client()
                try:
                    await client.connect()
                    self._check_version(await client.get_meta())
                    await self._reach_grpc()
                    self._check_open()
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the document store is closed")

    def _new_client(self) -> weaviate.WeaviateAsyncClient:
        # It logs objects that were not taken, with all their text.
        logging.getLogger(_CLIENT_LOGGER).setLevel(logging.CRITICAL)
        where = self.address
        key = self._key = self._read_key()
        limit = self._timeout_s
        return weaviate.WeaviateAsyncClient(
            ConnectionParams.from_params(
                http_host=_bracketed(where.host),
                http_port=where.port,
                http_secure=where.secure,
                grpc_host=_bracketed(where.grpc_host),
                grpc_port=where.grpc_port,
                grpc_secure=where.secure,
            ),
            auth_client_secret=Auth.api_key(key) if key else None,
            additional_config=AdditionalConfig(
                timeout=Timeout(query=limit, insert=limit, init=limit),
                trust_env=False,
                grpc_config=GrpcConfig(channel_options=_NO_PROXY),
            ),
            # They would ask the package index for a newer client.
            skip_init_checks=True,
        )

    def _check_version(self, meta: Mapping[str, object]) -> None:
        """Raises StoreUnavailable for a server whose messages are not those used here."""
        version = str(meta.get("version"))
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST:
            raise StoreUnavailable(
                f"Weaviate at {self.address} is {version[:20]!r}, and"
                f" {'.'.join(map(str, OLDEST))} or newer is needed",
                store=self.address,
            )

    async def _reach_grpc(self) -> None:
        """Raises StoreUnavailable where REST answers and gRPC does not."""
        where = self.address
        target = f"{_bracketed(where.grpc_host)}:{where.grpc_port}"
        if where.secure:
            keys = grpc.ssl_channel_credentials()
            channel = grpc.aio.secure_channel(target, keys, options=_NO_PROXY)
        else:
            channel = grpc.aio.insecure_channel(target, options=_NO_PROXY)
        async with channel:
            check = channel.unary_unary(
                _HEALTH,
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            try:
                await check(health_pb2.HealthCheckRequest(), timeout=self._timeout_s)
            except grpc.aio.AioRpcError as error:
                if error.code() in _REFUSED | _FORBIDDEN:
                    raise
                raise StoreUnavailable(
                    f"Weaviate answers at {where} but not to gRPC at {target}"
                    f" ({error.code().name}): publish that port, or name it with ?grpc=PORT",
                    store=where,
                ) from error

    def _read_key(self) -> str:
        if not self._key_file:
            return ""
        try:
            key = Path(self._key_file).expanduser().read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"HOLA_STORE_KEY_FILE {self._key_file} cannot be read: {type(error).__name__}",
                variable="HOLA_STORE_KEY_FILE",
            ) from error
        if not key or not key.isprintable():
            raise ConfigError(
                f"HOLA_STORE_KEY_FILE {self._key_file} holds no key", variable="HOLA_STORE_KEY_FILE"
            )
        return key

    async def _translated(self, error: Exception) -> StoreUnavailable:
        status = _status(error)
        if status in _REFUSED | _FORBIDDEN:
            await self._disconnect()
        return StoreUnavailable(
            f"Weaviate at {self.address} {self._reason(error, status)}", store=self.address
        )

    def _reason(self, error: Exception, status: int | grpc.StatusCode | None) -> str:
        if status in _REFUSED and self._key_file:
            return f"refuses the key in {self._key_file}: write a valid one there"
        if status in _REFUSED:
            return "wants an API key: name a file that holds one in HOLA_STORE_KEY_FILE"
        if status in _FORBIDDEN:
            return (
                f"does not allow this: the key needs the right to make, read and write"
                f" collections and tenants of {self.address.prefix}*"
            )
        if status is grpc.StatusCode.UNAVAILABLE:
            return "went away: start it again"
        if isinstance(error, TimeoutError) or status is grpc.StatusCode.DEADLINE_EXCEEDED:
            return (
                f"did not answer within {self._timeout_s:g} s (HOLA_RPC_TIMEOUT_S);"
                " what was being written may be there or not: write it again"
            )
        if any(isinstance(cause, httpx.TransportError) for cause in _chain(error)):
            return "cannot be reached: start it there, or correct HOLA_STORE"
        return f"gave an unusable answer: {type(error).__name__}: {error}"[:_SHOWN_CHARS]

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


def was_answered(error: StoreUnavailable) -> bool:
    """False when the server could not be asked or did not answer in time."""
    causes = _chain(error)
    silent = any(isinstance(cause, httpx.TransportError | TimeoutError) for cause in causes)
    return not silent and _status(error) not in _SILENT


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what it was raised from or in."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _status(error: BaseException) -> int | grpc.StatusCode | None:
    """The HTTP or gRPC status that an error of the client's came from."""
    for cause in _chain(error):
        if isinstance(cause, grpc.aio.AioRpcError):
            return cause.code()
    for cause in _chain(error):
        if isinstance(cause, UnexpectedStatusCodeError):
            return int(cause.status_code)
    return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _malformed(why: str) -> ConfigError:
    return ConfigError(
        f"HOLA_STORE is no store's address ({why}): expected {FORM}",
        variable="HOLA_STORE",
        expected=FORM,
    )
