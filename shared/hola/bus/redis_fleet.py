"""What a fleet shares besides jobs, on Redis: quotas of tenants and the registry of verifiers."""

from __future__ import annotations

from typing import cast

from hola.bus import fleet_scripts, rules
from hola.bus.redis_link import Argument, RedisLink, milliseconds
from hola.convert import encode_record
from hola.types import VerifierRecord


class RedisQuota:
    """ports.Quota as one key per bucket that is gone when the bucket is full.

    Time is the server's, so that routers whose clocks differ agree.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._spend = link.script(fleet_scripts.SPEND)

    async def spend(self, bucket: str, *, rate_per_s: float, burst: int) -> float:
        """Take one token of a bucket that holds at most `burst` and fills at `rate_per_s`.

        Returns 0.0, or the seconds until there is one (none is taken then). Raises ConfigError on
        a rate or a burst that never gives a token, BusUnavailable. A token whose answer was lost
        is paid twice.
        """
        rules.check_bucket(rate_per_s, burst)
        key, step = self._link.keys.bucket(bucket), repr(1e6 / rate_per_s)
        wait_us = await self._link.call(lambda _: self._spend([key], [step, burst]))
        return int(wait_us) / 1e6


class RedisRegistry:
    """ports.Registry as a sorted set of expiry times and a hash of records."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._announce = link.script(fleet_scripts.ANNOUNCE)
        self._withdraw = link.script(fleet_scripts.WITHDRAW)
        self._verifiers = link.script(fleet_scripts.VERIFIERS)

    async def announce(self, record: VerifierRecord, *, ttl_s: float) -> None:
        """Write or refresh a record; it is gone `ttl_s` seconds later.

        Beyond limits.registry_limit the one that would go first goes. Raises ProtocolViolation on
        a value that does not fit the wire, BusUnavailable.
        """
        limit, payload = self._link.limits.registry_limit, encode_record(record)
        arguments: list[Argument] = [record.address, payload, milliseconds(ttl_s), limit]
        keys = list(self._link.keys.registry)
        await self._link.call(lambda _: self._announce(keys, arguments))

    async def withdraw(self, address: str) -> None:
        """Remove a record. Idempotent. Raises BusUnavailable."""
        keys = list(self._link.keys.registry)
        await self._link.call(lambda _: self._withdraw(keys, [address]))

    async def verifiers(self) -> tuple[VerifierRecord, ...]:
        """Those whose record holds and can be read, by address. Raises BusUnavailable."""
        keys, limit = list(self._link.keys.registry), self._link.limits.registry_limit
        found = await self._link.call(lambda _: self._verifiers(keys, [limit]))
        payloads = cast(list[bytes | None], found)
        return rules.readable([payload for payload in payloads if payload is not None])
