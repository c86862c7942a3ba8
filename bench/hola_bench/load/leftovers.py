"""What a fleet still holds when nobody asks for anything any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from hola.bus.from_settings import bus_from
from hola.bus.streams import Keys
from hola.config import Settings
from hola.rpc.verifier_client import GrpcVerifier
from hola_bench.chaos.fleet import Fleet

SETTLE_S = 90.0
POLL_S = 0.5
# Keys that stay for ever, and are small: the queue's own.
LASTING = ("tenants", "queued", "ready", "dead")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What was there at the end of the wait.

    `kinds` has, for each kind of key on the bus, how many there are and the longest time to live,
    seconds. `lasting_keys` are those without an expiry that should have one; `journal_entries` is
    the longest journal's length.
    """

    sessions: int
    kv_bytes: int
    jobs: int
    kinds: dict[str, tuple[int, int]]
    lasting_keys: tuple[str, ...]
    journal_entries: int
    after_s: float

    @property
    def stuck(self) -> int:
        """Sessions and jobs that should have been gone."""
        return self.sessions + self.jobs


async def look(fleet: Fleet) -> Leftovers:
    """Wait until verifiers and queue are empty, for SETTLE_S seconds at most; then look around."""
    settings = Settings(bus=fleet.bus, insecure=True)
    verifiers = [GrpcVerifier(address, settings) for address in fleet.verifiers.values()]
    bus = await bus_from(settings)
    began = time.monotonic()
    try:
        while True:
            infos = [await each.info() for each in verifiers]
            sessions = sum(info.active_sessions for info in infos)
            kv_bytes = sum(info.kv_bytes for info in infos)
            jobs = await bus.jobs.depth()
            waited_s = time.monotonic() - began
            if not (sessions or kv_bytes or jobs) or waited_s > SETTLE_S:
                break
            await asyncio.sleep(POLL_S)
    finally:
        await bus.close()
        for each in verifiers:
            await each.close()
    return Leftovers(
        sessions=sessions,
        kv_bytes=kv_bytes,
        jobs=jobs,
        after_s=waited_s,
        **await _keys(fleet.bus),
    )


async def _keys(url: str) -> Mapping[str, Any]:
    client = redis.asyncio.from_url(url)
    lasting: list[str] = []
    longest = 0
    kinds: dict[str, tuple[int, int]] = {}
    allowed = {f"{Keys().prefix}:{{jobs}}:{name}" for name in LASTING}
    try:
        async for key in client.scan_iter(count=1000):
            name, ttl_s = key.decode(), await client.ttl(key)
            kind = next(part for part in name.split(":")[1:] if not part.startswith("{"))
            count, most_s = kinds.get(kind, (0, 0))
            kinds[kind] = (count + 1, max(most_s, ttl_s))
            if ttl_s == -1 and name not in allowed:
                lasting.append(name)
            if kind == "journal":
                longest = max(longest, await client.xlen(name))
    finally:
        await client.aclose()
    return {"kinds": kinds, "lasting_keys": tuple(lasting), "journal_entries": longest}
