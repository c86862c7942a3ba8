"""Where the verifiers' addresses come from: a list, a DNS name, or a registry."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from hola.bus.ports import Registry
from hola.errors import ConfigError, VerifierUnavailable
from hola.rpc.channel import parse_address
from hola.types import VerifierInfo

DNS_PREFIX = "dns:///"
REGISTRY = "registry:"
FORM = "an address, several with commas, dns:///host:port, or registry:"

# Addresses, each with what is known of the verifier there.
Found = Mapping[str, VerifierInfo | None]
Lookup = Callable[[str, int], Awaitable[list[str]]]


class Source(Protocol):
    """A set of addresses that may change.

    `server_name` is the one in all their certificates, empty where each has its address's own.
    """

    @property
    def server_name(self) -> str: ...

    async def look(self) -> Found:
        """The addresses now. Raises VerifierUnavailable or BusUnavailable."""
        ...


class StaticSource:
    """A list that never changes."""

    server_name = ""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        """Raises ConfigError on a malformed address."""
        for address in addresses:
            parse_address(address)
        self._found: Found = dict.fromkeys(addresses)

    async def look(self) -> Found:
        """Always the same."""
        return self._found


class DnsSource:
    """All A and AAAA records of a name, e.g. a headless service's pods, which share its name."""

    def __init__(self, host: str, port: int, lookup: Lookup | None = None) -> None:
        self.server_name = host
        self._host = host
        self._port = port
        self._lookup = lookup

    async def look(self) -> Found:
        """Ask the resolver. Raises VerifierUnavailable when it knows no such name."""
        try:
            hosts = await (self._lookup or resolve)(self._host, self._port)
        except OSError as error:
            name = f"{self._host}:{self._port}"
            raise VerifierUnavailable(f"verifiers {name}: {error}", address=name) from None
        return dict.fromkeys(f"grpc://{_bracketed(host)}:{self._port}" for host in hosts)


class RegistrySource:
    """The verifiers whose announcement holds, with what they say of themselves."""

    server_name = ""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def look(self) -> Found:
        """Read the registry. Raises BusUnavailable."""
        return {record.address: record.info for record in await self._registry.verifiers()}


def source_of(text: str, registry: Registry | None = None) -> Source:
    """The source that HOLA_VERIFIER names.

    Raises ConfigError on a malformed address, and on registry: where there is no registry.
    """
    if text == REGISTRY:
        if registry is None:
            raise ConfigError("HOLA_VERIFIER=registry: needs HOLA_BUS", variable="HOLA_VERIFIER")
        return RegistrySource(registry)
    if text.startswith(DNS_PREFIX):
        host, _, port = text.removeprefix(DNS_PREFIX).rpartition(":")
        parse_address(f"{host}:{port}")
        return DnsSource(host.removeprefix("[").removesuffix("]"), int(port))
    addresses = tuple(part.strip() for part in text.split(",") if part.strip())
    if not addresses:
        raise ConfigError(
            f"HOLA_VERIFIER={text!r} names no verifier: expected {FORM}", variable="HOLA_VERIFIER"
        )
    return StaticSource(addresses)


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host name; raises OSError.

    On a daemon thread of its own: a resolver can hang for half a minute, and neither the event
    loop, nor its pool of threads, nor the end of the process may wait for it.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(hosts: list[str], error: OSError | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(hosts)
        else:
            answer.set_exception(error)

    def ask() -> None:
        hosts: list[str] = []
        trouble: OSError | None = None
        try:
            records = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            hosts = list(dict.fromkeys(str(record[4][0]) for record in records))
        except OSError as error:
            trouble = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, hosts, trouble)

    threading.Thread(target=ask, name="dns", daemon=True).start()
    return await answer


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
