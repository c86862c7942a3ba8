"""What a bus URL says: one server, a master found by sentinels, or a cluster."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from hola.errors import ConfigError

FORMS = (
    "redis://[[user]:password@]host[:port][/db], rediss://..., unix:///path/to/socket,"
    " redis+sentinel://[[user]:password@]host[:port],host[:port]/service[/db],"
    " redis+cluster://[[user]:password@]host[:port],host[:port], rediss+..., memory:"
)
SENTINEL_PORT = 26379
REDIS_PORT = 6379


class Topology(enum.Enum):
    """How the servers stand to each other."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class BusAddress:
    """A parsed URL; `url` is the whole of it, `shown` the same without credentials.

    `nodes` are the sentinels or the cluster's first nodes; empty for SINGLE, whose `url` is passed
    on as it is. Credentials are those of the Redis servers; sentinels are asked without any.
    """

    url: str
    shown: str
    topology: Topology
    is_tls: bool
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = None


def parse_address(url: str) -> BusAddress:
    """Raises ConfigError unless the URL has one of FORMS; the password is not repeated."""
    scheme, found, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    if not found or base not in {"redis", "rediss", "unix"} or kind not in _PARSERS:
        raise _refuse(url)
    try:
        return _PARSERS[kind](url, rest)
    except ValueError as wrong:
        # What urlsplit complains about may be a part of a password.
        what = "a host or port is malformed" if "@" in rest else wrong
        raise ConfigError(f"bus URL: {what}; use {FORMS}") from None


def _single(url: str, rest: str) -> BusAddress:
    parts = urlsplit(url)
    host, _ = parts.hostname, parts.port  # raises ValueError on a port that is none
    if not (parts.path if parts.scheme == "unix" else host):
        raise _refuse(url)
    if any(name.startswith("ssl_") for name in parse_qs(parts.query)):
        text = "certificates are named by HOLA_BUS_CA, HOLA_BUS_CERT and HOLA_BUS_KEY"
        raise ConfigError(f"bus URL {_shown(url)}: {text}")
    return BusAddress(
        url=url,
        shown=_shown(url),
        topology=Topology.SINGLE,
        is_tls=parts.scheme == "rediss",
        username=parts.username,
        password=parts.password,
    )


def _sentinel(url: str, rest: str) -> BusAddress:
    netloc, path = _with_hosts(url, rest)
    service, _, db = path.strip("/").partition("/")
    if not service or (db and not db.isdecimal()):
        raise _refuse(url)
    return _many(url, netloc, Topology.SENTINEL, SENTINEL_PORT, service=unquote(service), db=db)


def _cluster(url: str, rest: str) -> BusAddress:
    netloc, path = _with_hosts(url, rest)
    if path not in {"", "/", "/0"}:
        raise ConfigError(f"bus URL {_shown(url)}: a cluster has no databases; use {FORMS}")
    return _many(url, netloc, Topology.CLUSTER, REDIS_PORT)


_PARSERS = {"": _single, "sentinel": _sentinel, "cluster": _cluster}


def _with_hosts(url: str, rest: str) -> tuple[str, str]:
    """Network location and path; urlsplit refuses a list of hosts with a bracketed one in it."""
    netloc, slash, path = rest.partition("/")
    if url.startswith("unix") or "?" in rest or "#" in rest:
        raise _refuse(url)
    return netloc, slash + path


def _many(
    url: str,
    netloc: str,
    topology: Topology,
    port: int,
    *,
    service: str = "",
    db: str = "",
) -> BusAddress:
    credentials, _, hosts = netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    return BusAddress(
        url=url,
        shown=_shown(url),
        topology=topology,
        is_tls=url.startswith("rediss"),
        nodes=tuple(_node(host, port) for host in hosts.split(",")),
        service=service,
        db=int(db or 0),
        username=unquote(username) or None,
        password=unquote(password) or None,
    )


def _node(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"host://{text}")
    if not parts.hostname or parts.path:
        raise ValueError(f"{text!r} is not a host with an optional port")
    return parts.hostname, parts.port or default_port


def _shown(url: str) -> str:
    scheme, _, rest = url.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _refuse(url: str) -> ConfigError:
    scheme, found, _ = url.partition(":")
    shown = f"{scheme}:..." if found and scheme.isascii() else repr(url.rpartition("@")[2])
    return ConfigError(f"bus URL {shown} has none of the forms {FORMS}")
