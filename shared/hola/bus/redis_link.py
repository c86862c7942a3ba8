"""The connections of one Redis bus: one pool for commands, one each for the two blocking reads."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ClusterError,
    ConnectionError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from hola.bus.address import BusAddress, Topology
from hola.bus.redis_clients import COMMAND_TIMEOUT_S, close_client, make_client
from hola.bus.security import BusSecurity
from hola.bus.streams import BusLimits, Keys
from hola.errors import BusUnavailable

MAX_COMMAND_CONNECTIONS = 16
MAX_TAKE_CONNECTIONS = 64

T = TypeVar("T")
RawEntry = tuple[bytes, dict[bytes, bytes]]
Argument = bytes | str | int
Script = Callable[[list[str], list[Argument]], Awaitable[Any]]

# Errors that a server answers with while it, or the cluster around it, changes.
_CHANGING = ClusterDownError | ClusterError | RedisClusterException | ReadOnlyError | TryAgainError
_CHANGING_WORDS = ("NOREPLICAS", "UNBLOCKED", "MASTERDOWN")


class RedisLink:
    """Clients, limits and keys that the parts of a RedisBus share. Connects on first use."""

    def __init__(
        self, address: BusAddress, limits: BusLimits, keys: Keys, security: BusSecurity
    ) -> None:
        """Raises ConfigError on a URL that redis-py does not understand, and as BusSecurity."""
        security.check(address)
        self.limits = limits
        self.keys = keys
        self.url = address.shown
        self.is_cluster = address.topology is Topology.CLUSTER
        blocking_s = limits.block_s + COMMAND_TIMEOUT_S

        def client(role: str, connections: int, timeout_s: float) -> Any:
            name = f"{keys.prefix}-{role}"
            return make_client(
                address, security, name=name, connections=connections, timeout_s=timeout_s
            )

        # redis-py's annotations differ between its clients: what is sent is the same.
        self.commands: Any = client("commands", MAX_COMMAND_CONNECTIONS, COMMAND_TIMEOUT_S)
        self.takes: Any = client("take", MAX_TAKE_CONNECTIONS, blocking_s)
        self.follows: Any = client("follow", 1, blocking_s)

    async def call(self, operation: Callable[[bool], Awaitable[T]]) -> T:
        """Await `operation(repeated)`, again after a lost connection, for at most retry_s.

        `repeated` is true when an earlier attempt may have taken effect although its answer was
        lost. Raises BusUnavailable; a ResponseError other than that of a loading server at once.
        """
        task = asyncio.current_task()
        cancels_before = task.cancelling() if task else 0
        attempts = itertools.count()

        async def attempt() -> T:
            return await operation(next(attempts) > 0)

        retrying = AsyncRetrying(
            retry=retry_if_exception(is_lost),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            stop=stop_after_delay(self.limits.retry_s),
            reraise=True,
        )
        try:
            result: T = await retrying(attempt)
        except (RedisError, RedisClusterException, OSError) as error:
            raise self.unavailable(error) from error
        if task is not None and task.cancelling() > cancels_before:
            # Python 3.11's wait_for, which redis-py sends with, can swallow a cancellation.
            raise asyncio.CancelledError
        return result

    def unavailable(self, error: BaseException) -> BusUnavailable:
        """What Redis said, with the URL and without its password."""
        is_answer = isinstance(error, ResponseError) and not is_lost(error)
        what = "refused a command" if is_answer else "cannot be reached"
        return BusUnavailable(f"Redis at {self.url} {what}: {error}", url=self.url)

    def script(self, text: str) -> Script:
        """A Lua script, sent in full once per server and by its digest from then on.

        All keys it touches must be in one hash slot.
        """
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

        async def run(keys: list[str], arguments: list[Argument]) -> Any:
            try:
                return await self.commands.evalsha(digest, len(keys), *keys, *arguments)
            except NoScriptError:
                return await self.commands.eval(text, len(keys), *keys, *arguments)

        return run

    async def entries(self, key: str, first: str, last: str, count: int) -> list[RawEntry]:
        """XRANGE on the command connection, tried again by `call`."""
        found = await self.call(lambda _: self.commands.xrange(key, first, last, count=count))
        return cast(list[RawEntry], found)

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        clients = (self.commands, self.takes, self.follows)
        await asyncio.gather(*map(close_client, clients), return_exceptions=True)


def is_lost(error: BaseException) -> bool:
    """True for what may pass: the connection or a failover, not the password."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return False
    if isinstance(error, ResponseError) and str(error).startswith(_CHANGING_WORDS):
        return True
    return isinstance(error, ConnectionError | TimeoutError | OSError | _CHANGING)


def is_no_group(error: ResponseError) -> bool:
    """True when the stream or its consumer group is gone (flushed, or lost with the server)."""
    return "NOGROUP" in str(error) or "no such key" in str(error).lower()


def milliseconds(seconds: float) -> int:
    """At least 1: to Redis, 0 means for ever."""
    return max(1, round(seconds * 1000))
