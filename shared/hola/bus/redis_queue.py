"""Payloads for a group of consumers on Redis: a stream per tenant, claims, and dead letters."""

from __future__ import annotations

from typing import Any, cast

from hola.bus import job_scripts, rules
from hola.bus.redis_link import Argument, RawEntry, RedisLink, milliseconds
from hola.bus.rules import RawJob
from hola.bus.streams import PAYLOAD_FIELD, QueueKeys, parse_id

FORGOTTEN_CONSUMER_S = 24 * 3600.0
RELEASED_IDLE_S = 30 * 24 * 3600.0  # longer than any job_idle_s
READY_TTL_S = 60.0


class RedisQueue:
    """One queue; what is in a payload is its user's business. Every method raises BusUnavailable.

    Queueing, claim, heartbeat, acknowledgement and burial are one script each, so no crash can stop
    one half-way.
    """

    def __init__(self, link: RedisLink, keys: QueueKeys, group: str) -> None:
        self._link = link
        self._keys = keys
        self._group = group
        self._enqueue = link.script(job_scripts.ENQUEUE)
        self._take = link.script(job_scripts.TAKE)
        self._renew = link.script(job_scripts.RENEW)
        self._release = link.script(job_scripts.RELEASE)
        self._ack = link.script(job_scripts.ACK)
        self._bury = link.script(job_scripts.BURY)
        self._depth = link.script(job_scripts.DEPTH)
        self._backlog = link.script(job_scripts.BACKLOG)
        self._prune = link.script(job_scripts.PRUNE)
        self._is_pruned = False

    async def put(
        self, tenant: str, name: str, payload: bytes, *, limit: int, tenant_limit: int
    ) -> bytes:
        """Queue a payload once per name: b"OK", b"FULL" at the limit or b"TENANT_FULL"."""
        keys = self._keys
        arguments: list[Argument] = [self._group, keys.queues, tenant, name, payload]
        arguments += [limit, tenant_limit, milliseconds(READY_TTL_S)]
        reply: bytes = await self._link.call(
            lambda _: self._enqueue([keys.tenants, keys.queued, keys.ready], arguments)
        )
        return reply

    async def next(self, consumer: str) -> RawJob | None:
        """First a job whose consumer went silent, else a new one; None when there is neither.

        Among several, of the tenant with the fewest running jobs.
        """
        keys, idle_ms = self._keys, milliseconds(self._link.limits.job_idle_s)
        arguments: list[Argument] = [self._group, keys.queues, consumer, idle_ms]
        found = await self._link.call(lambda _: self._take([keys.tenants, keys.ready], arguments))
        if found is None:
            return None
        tenant, entry, fields, attempts = found
        return RawJob(
            token=f"{tenant.decode(errors='replace')}/{entry.decode()}",
            tenant=tenant.decode(errors="replace"),
            payload=_payload(fields),
            attempts=int(attempts),
        )

    async def wait(self, left_s: float) -> None:
        """Until there may be a job: in slices, so that one gone stale is not left waiting."""
        limits, key = self._link.limits, self._keys.ready
        slice_s = max(min(left_s, limits.block_s, limits.job_idle_s / 2), 0.001)
        await self._link.call(lambda _: self._link.takes.blpop([key], timeout=slice_s))

    async def renew(self, consumer: str, token: str) -> None:
        """Heartbeat. Raises Fenced when another consumer has the job by now."""
        keys = [self._keys.queue(_tenant(token))]
        reply = await self._link.call(lambda _: self._renew(keys, self.owner(consumer, token)))
        if reply == b"LOST":
            raise rules.delivery_lost(token, consumer)

    async def release(self, consumer: str, token: str) -> None:
        """Give a job back, not counted as an attempt; nothing happens when it is another's."""
        keys = [self._keys.queue(_tenant(token)), self._keys.ready]
        idle_ms, ready_ms = milliseconds(RELEASED_IDLE_S), milliseconds(READY_TTL_S)
        arguments = [*self.owner(consumer, token), idle_ms, ready_ms]
        await self._link.call(lambda _: self._release(keys, arguments))

    async def forget(self, token: str, name: str) -> None:
        """Remove a job. Idempotent."""
        arguments: list[Argument] = [self._group, _entry(token), _tenant(token), name]
        await self._link.call(lambda _: self._ack(self.job_keys(token), arguments))

    async def bury(self, raw: RawJob, name: str, reason: str) -> None:
        """Move a job to the dead letters. Idempotent."""
        limits = self._link.limits
        keys = [*self.job_keys(raw.token), self._keys.dead_letters]
        arguments: list[Argument] = [self._group, _entry(raw.token), raw.tenant, name]
        arguments += [limits.dead_letter_limit, raw.payload, reason]
        arguments += [milliseconds(limits.dead_letter_ttl_s)]
        await self._link.call(lambda _: self._bury(keys, arguments))

    async def depth(self, tenant: str = "") -> int:
        """Jobs waiting or running; with `tenant` only that one's."""
        keys = self._keys
        if tenant:
            found = await self._link.call(lambda _: self._link.commands.xlen(keys.queue(tenant)))
        else:
            found = await self._link.call(lambda _: self._depth([keys.tenants], [keys.queues]))
        return int(found)

    async def backlog(self) -> tuple[int, int, int]:
        """Of all tenants: jobs waiting or running, those of them taken, dead letters."""
        keys = [self._keys.tenants, self._keys.dead_letters]
        arguments: list[Argument] = [self._group, self._keys.queues]
        found = await self._link.call(lambda _: self._backlog(keys, arguments))
        depth, taken, dead = (int(number) for number in found)
        return depth, taken, dead

    async def letters(self, limit: int) -> list[RawEntry]:
        """The youngest dead letters, youngest first."""
        found = await self._link.call(
            lambda _: self._link.commands.xrevrange(self._keys.dead_letters, count=max(limit, 1))
        )
        return cast(list[RawEntry], found)[: max(limit, 0)]

    async def letter_payload(self, letter_id: str) -> bytes:
        """A dead letter's payload. Raises UnknownRequest when there is none of this id."""
        try:
            parse_id(letter_id)
        except ValueError:
            raise rules.no_letter(letter_id) from None
        found = await self._link.entries(self._keys.dead_letters, letter_id, letter_id, 1)
        if not found:
            raise rules.no_letter(letter_id)
        return found[0][1].get(PAYLOAD_FIELD, b"")

    async def drop_letter(self, letter_id: str) -> None:
        """Remove a dead letter. Idempotent."""
        key = self._keys.dead_letters
        await self._link.call(lambda _: self._link.commands.xdel(key, letter_id))

    async def prune_once(self) -> None:
        """Forget consumers without jobs that were silent for a day: once per process."""
        if not self._is_pruned:
            keys, idle_ms = self._keys, milliseconds(FORGOTTEN_CONSUMER_S)
            arguments: list[Argument] = [self._group, keys.queues, idle_ms]
            await self._link.call(lambda _: self._prune([keys.tenants], arguments))
            self._is_pruned = True

    def owner(self, consumer: str, token: str) -> list[Argument]:
        """What the scripts that only a delivery's owner may run begin with (job_scripts.OWNED)."""
        return [self._group, consumer, _entry(token)]

    def job_keys(self, token: str) -> list[str]:
        """The keys that forgetting a job touches."""
        return [self._keys.queue(_tenant(token)), self._keys.tenants, self._keys.queued]


def _tenant(token: str) -> str:
    return token.rpartition("/")[0]


def _entry(token: str) -> str:
    return token.rpartition("/")[2]


def _payload(fields: list[Any]) -> bytes:
    """The payload out of a flat list of names and values; empty when there is none."""
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    found: bytes = pairs.get(PAYLOAD_FIELD, b"")
    return found
