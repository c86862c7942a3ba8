"""From a URL to a bus."""

from __future__ import annotations

from urllib.parse import urlsplit

from hola.bus.memory import MemoryBus
from hola.bus.streams import BusLimits
from hola.errors import ConfigError
from hola.ports import Bus

FORMS = "redis://[[user]:password@]host[:port][/db], rediss://..., unix:///path/to/socket, memory:"


async def open_bus(url: str, *, limits: BusLimits | None = None, prefix: str = "hola") -> Bus:
    """The bus at `url`, reachable; close it when done.

    `memory:` is a new bus for this process alone. `prefix` begins every key, so that several
    installations can share a server. Raises ConfigError on a URL of another form, BusUnavailable
    when the server does not answer for limits.retry_s.
    """
    if url == "memory:":
        return MemoryBus(limits=limits)
    _check(url)
    # Imported here so that an embedded node starts without the client library.
    from hola.bus.redis import RedisBus

    bus = RedisBus(url, limits=limits, prefix=prefix)
    try:
        await bus.ping()
    except BaseException:
        await bus.close()
        raise
    return bus


def _check(url: str) -> None:
    """Raises ConfigError unless the URL has one of the forms; the password is not repeated."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as wrong:
        raise ConfigError(f"bus URL: {wrong}; use {FORMS}") from None
    has_place = bool(parts.path) if parts.scheme == "unix" else bool(host)
    if parts.scheme not in {"redis", "rediss", "unix"} or not has_place:
        shown = f"{parts.scheme}:..." if parts.scheme else repr(url.rpartition("@")[2])
        raise ConfigError(f"bus URL {shown} has none of the forms {FORMS}")
