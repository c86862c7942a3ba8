"""The connections of one Redis bus: one pool for commands, one each for the two blocking reads."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from hola.bus.streams import BusLimits, Keys
from hola.errors import BusUnavailable, ConfigError

CONNECT_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 5.0
MAX_COMMAND_CONNECTIONS = 16
MAX_TAKE_CONNECTIONS = 64

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")

T = TypeVar("T")
RawEntry = tuple[bytes, dict[bytes, bytes]]
Argument = bytes | str | int
Script = Callable[[list[str], list[Argument]], Awaitable[Any]]


class RedisLink:
    """Clients, limits and keys that the parts of a RedisBus share. Connects on first use."""

    def __init__(self, url: str, limits: BusLimits, keys: Keys) -> None:
        """Raises ConfigError on a URL that redis-py does not understand."""
        self.limits = limits
        self.keys = keys
        self.url = _CREDENTIALS.sub("", url)
        self.commands = self._client(url, "commands", MAX_COMMAND_CONNECTIONS)
        blocking_s = limits.block_s + COMMAND_TIMEOUT_S
        self.takes = self._client(url, "take", MAX_TAKE_CONNECTIONS, timeout_s=blocking_s)
        self.follows = self._client(url, "follow", 1, timeout_s=blocking_s)

    def _client(
        self, url: str, role: str, connections: int, *, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> Redis:
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=connections,
                timeout=COMMAND_TIMEOUT_S,
                socket_timeout=timeout_s,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                client_name=f"{self.keys.prefix}-{role}",
                protocol=2,
                # Repeating is done by `call`, which knows what a repeated command may find.
                retry=Retry(NoBackoff(), 0),
            )
            pool.make_connection()  # its constructor is what checks the URL's options
        except (ValueError, TypeError) as wrong:
            raise ConfigError(f"bus URL {self.url!r}: {wrong}") from None
        return Redis.from_pool(pool)

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
        except RedisError as error:
            raise self.unavailable(error) from error
        if task is not None and task.cancelling() > cancels_before:
            # Python 3.11's wait_for, which redis-py sends with, can swallow a cancellation.
            raise asyncio.CancelledError
        return result

    def unavailable(self, error: BaseException) -> BusUnavailable:
        """What Redis said, with the URL and without its password."""
        what = "refused a command" if isinstance(error, ResponseError) else "cannot be reached"
        return BusUnavailable(f"Redis at {self.url} {what}: {error}", url=self.url)

    def script(self, text: str) -> Script:
        """A Lua script, sent in full once per server and by its digest from then on."""
        registered = self.commands.register_script(text)

        async def run(keys: list[str], arguments: list[Argument]) -> Any:
            return await registered(keys, cast(list[Any], arguments))

        return run

    async def entries(self, key: str, first: str, last: str, count: int) -> list[RawEntry]:
        """XRANGE on the command connection, tried again by `call`."""
        found = await self.call(lambda _: self.commands.xrange(key, first, last, count=count))
        return cast(list[RawEntry], found)

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        for client in (self.commands, self.takes, self.follows):
            await client.aclose(close_connection_pool=True)


def is_lost(error: BaseException) -> bool:
    """True for what may pass: the connection, not the password."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return False
    return isinstance(error, ConnectionError | TimeoutError | OSError)


def is_no_group(error: ResponseError) -> bool:
    """True when the stream or its consumer group is gone (flushed, or lost with the server)."""
    return "NOGROUP" in str(error) or "no such key" in str(error).lower()


def milliseconds(seconds: float) -> int:
    """At least 1: to Redis, 0 means for ever."""
    return max(1, round(seconds * 1000))
