"""From a URL to a bus."""

from __future__ import annotations

from hola.bus.address import parse_address
from hola.bus.memory import MemoryBus
from hola.bus.ports import Bus
from hola.bus.security import BusSecurity
from hola.bus.streams import BusLimits


async def open_bus(
    url: str,
    *,
    limits: BusLimits | None = None,
    prefix: str = "hola",
    security: BusSecurity | None = None,
) -> Bus:
    """The bus at `url`, reachable; close it when done.

    `memory:` is a new bus for this process alone. `prefix` begins every key, so that several
    installations can share a server. Raises ConfigError on a URL that has none of
    `hola.bus.address.FORMS` or on files that cannot be used, BusUnavailable when the server does
    not answer for limits.retry_s.
    """
    if url == "memory:":
        return MemoryBus(limits=limits)
    parse_address(url)
    # Imported here so that an embedded node starts without the client library.
    from hola.bus.redis import RedisBus

    bus = RedisBus(url, limits=limits, prefix=prefix, security=security)
    try:
        await bus.ping()
    except BaseException:
        await bus.close()
        raise
    return bus
