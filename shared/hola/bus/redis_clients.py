"""Redis clients for each topology; each connection reads password and certificates anew."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError, RedisClusterException, RedisError

from hola.bus.address import BusAddress, Topology
from hola.bus.security import BusSecurity
from hola.errors import ConfigError

CONNECT_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 5.0
CLUSTER_CONNECTIONS = 64  # a node's; beyond, a command is tried again later

Client = Redis | RedisCluster


class _PasswordFile(CredentialProvider):
    """The URL's user with the password that the file holds now."""

    def __init__(self, username: str | None, security: BusSecurity) -> None:
        self._username = username
        self._security = security

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._security.password()
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return await asyncio.to_thread(self.get_credentials)


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Waits for a free connection to the master, as the other pools do."""


class _Cluster(RedisCluster):
    """Reports a connection that another task closed as a lost one.

    redis-py 8.1 closes a node's free connections when one of them breaks, also those that a
    command has just picked up: that fails on a stream or lock that is None.
    """

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().execute_command(*args, **kwargs)
        except (AttributeError, RuntimeError) as closed:
            raise ConnectionError(f"the connection was closed under {args[0]}") from closed


def make_client(
    address: BusAddress,
    security: BusSecurity,
    *,
    name: str,
    connections: int,
    timeout_s: float = COMMAND_TIMEOUT_S,
) -> Client:
    """A client that connects on first use and tries nothing twice: that is the caller's to do.

    `connections` bounds those to one server, `timeout_s` an answer. Raises ConfigError on a URL
    that redis-py does not understand.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "client_name": name,
        "driver_info": None,  # naming the library is one more command to allow
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }
    if security.password_file:
        options["credential_provider"] = _PasswordFile(address.username, security)
    elif address.topology is not Topology.SINGLE:
        options |= {"username": address.username, "password": address.password}
    try:
        match address.topology:
            case Topology.SENTINEL:
                return _sentinel(address, security, connections, options)
            case Topology.CLUSTER:
                return _cluster(address, security, options)
        return _single(address, security, connections, options)
    except (ValueError, TypeError, RedisError, RedisClusterException) as wrong:
        raise ConfigError(f"bus URL {address.shown!r}: {wrong}") from None


async def close_client(client: Client) -> None:
    """Close its connections, those to sentinels included. Idempotent."""
    try:
        await client.aclose()
    finally:
        pool = getattr(client, "connection_pool", None)
        if isinstance(pool, SentinelConnectionPool):
            await pool.sentinel_manager.aclose()


def _single(
    address: BusAddress, security: BusSecurity, connections: int, options: dict[str, Any]
) -> Redis:
    # Userinfo in the URL would go before the provider.
    url = address.url
    if security.password_file and address.username:
        url = url.replace(f"//{url.partition('//')[2].rpartition('@')[0]}@", "//", 1)
    pool = BlockingConnectionPool.from_url(
        url, max_connections=connections, timeout=COMMAND_TIMEOUT_S, **options
    )
    if address.is_tls:
        pool.connection_class = _tls(SSLConnection, security)
    pool.make_connection()  # its constructor is what checks the URL's options
    return Redis.from_pool(pool)


def _sentinel(
    address: BusAddress, security: BusSecurity, connections: int, options: dict[str, Any]
) -> Redis:
    timeouts = {key: options[key] for key in ("socket_timeout", "socket_connect_timeout")}
    timeouts["socket_timeout"] = CONNECT_TIMEOUT_S
    sentinel_options = {**timeouts, "retry": Retry(NoBackoff(), 0), "protocol": 2}
    managed: type[Connection] = SentinelManagedConnection
    if address.is_tls:
        managed = _tls(SentinelManagedSSLConnection, security)
    sentinel = Sentinel(address.nodes, sentinel_kwargs=sentinel_options)
    if address.is_tls:
        for each in sentinel.sentinels:
            each.connection_pool.connection_class = _tls(SSLConnection, security)
    client: Redis = sentinel.master_for(
        address.service,
        connection_pool_class=_SentinelPool,
        connection_class=managed,
        max_connections=connections,
        timeout=COMMAND_TIMEOUT_S,
        db=address.db,
        **options,
    )
    return client


def _cluster(address: BusAddress, security: BusSecurity, options: dict[str, Any]) -> RedisCluster:
    nodes = [ClusterNode(host, port) for host, port in address.nodes]
    client = _Cluster(
        startup_nodes=nodes,
        max_connections=CLUSTER_CONNECTIONS,
        dynamic_startup_nodes=False,  # the URL's names stay good when every address has changed
        ssl=address.is_tls,
        **options,
    )
    if address.is_tls:
        secured = _tls(SSLConnection, security)
        client.connection_kwargs["connection_class"] = secured
        for node in client.nodes_manager.startup_nodes.values():
            node.connection_class = secured
    return client


def _tls(kind: type[Any], security: BusSecurity) -> type[Any]:
    """A connection that reads its certificates each time it connects."""

    class FreshlyRead(kind):  # type: ignore[misc]
        async def _connect(self) -> None:
            self.ssl_context.context = security.context()
            await super()._connect()

    return FreshlyRead
