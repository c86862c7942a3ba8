"""Quotas and the verifier registry in memory; behaves as hola.bus.redis_fleet."""

from __future__ import annotations

from hola.bus import rules
from hola.bus.memory_store import MemoryStore
from hola.bus.streams import BusLimits
from hola.convert import encode_record
from hola.types import VerifierRecord


class MemoryQuota:
    """ports.Quota in memory; a bucket is the time at which it is full again."""

    def __init__(self, store: MemoryStore, limits: BusLimits) -> None:
        self._store = store
        self._limits = limits

    async def spend(self, bucket: str, *, rate_per_s: float, burst: int) -> float:
        """Take one token of a bucket that holds at most `burst` and fills at `rate_per_s`.

        Returns 0.0, or the seconds until there is one (none is taken then). Raises ConfigError on
        a rate or a burst that never gives a token.
        """
        rules.check_bucket(rate_per_s, burst)
        now, step_s, buckets = self._store.clock(), 1 / rate_per_s, self._store.buckets
        full_at = min(max(buckets.get(bucket, now), now), now + burst * step_s)
        wait_s = full_at + step_s - now - burst * step_s
        if wait_s > rules.ROUNDING_S:
            return wait_s
        if len(buckets) >= self._limits.bucket_limit:
            for full in [name for name, at in buckets.items() if at <= now]:
                del buckets[full]
        buckets[bucket] = full_at + step_s
        return 0.0


class MemoryRegistry:
    """ports.Registry in memory."""

    def __init__(self, store: MemoryStore, limits: BusLimits) -> None:
        self._store = store
        self._limits = limits

    async def announce(self, record: VerifierRecord, *, ttl_s: float) -> None:
        """Write or refresh a record; it is gone `ttl_s` seconds later.

        Beyond limits.registry_limit the one that would go first goes. Raises ProtocolViolation on
        a value that does not fit the wire.
        """
        now, records = self._store.clock(), self._store.records
        records[record.address] = (encode_record(record), now + ttl_s)
        for gone in [address for address, (_, until) in records.items() if until <= now]:
            del records[gone]
        while len(records) > self._limits.registry_limit:
            del records[min(records, key=lambda address: records[address][1])]

    async def withdraw(self, address: str) -> None:
        """Remove a record. Idempotent."""
        self._store.records.pop(address, None)

    async def verifiers(self) -> tuple[VerifierRecord, ...]:
        """Those whose record holds and can be read, by address."""
        now = self._store.clock()
        found = sorted(self._store.records.items())
        return rules.readable([payload for _, (payload, until) in found if until > now])
