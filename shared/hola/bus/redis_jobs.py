"""The job queue on Redis: a stream per tenant with one consumer group, and dead letters."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any, cast

from hola.bus import job_scripts, rules
from hola.bus.redis_journal import RedisJournal
from hola.bus.redis_link import Argument, RawEntry, RedisLink, milliseconds
from hola.bus.rules import RawJob
from hola.bus.streams import GROUP, PAYLOAD_FIELD, REASON_FIELD, TENANT_FIELD, parse_id
from hola.convert import decode_job, encode_job, request_id_of
from hola.errors import HolaError, ProtocolViolation, UnknownRequest
from hola.telemetry import get_logger
from hola.types import Backlog, DeadLetter, Delivery, GenerateJob
from hola.validate import check_tenant

FORGOTTEN_CONSUMER_S = 24 * 3600.0
RELEASED_IDLE_S = 30 * 24 * 3600.0  # longer than any job_idle_s
READY_TTL_S = 60.0

log = get_logger(__name__)


class RedisJobs:
    """ports.JobQueue on Redis streams.

    What makes it safe: creation of the journal, queueing, claim, heartbeat, acknowledgement and
    burial are one script each, so no crash can stop one half-way; a journal without a job is found
    by whoever publishes the request again; and a job is forgotten only after its journal ended.
    """

    def __init__(self, link: RedisLink, journal: RedisJournal) -> None:
        self._link = link
        self._journal = journal
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

    async def publish(self, job: GenerateJob) -> None:
        """Queue a job exactly once per request id, and create its journal.

        Raises DuplicateRequest, Overloaded at the queue's limit, QuotaExceeded at the tenant's,
        InvalidRequest on a value that does not fit the wire or a tenant that is no name,
        BusUnavailable.
        """
        check_tenant(job.tenant)
        await self._create_and_queue(job, encode_job(job), uuid.uuid4().hex)

    async def take(self, consumer: str, *, timeout_s: float) -> Delivery | None:
        """Next job for `consumer`: first one whose consumer went silent, else a new one.

        Among several, of the tenant with the fewest running jobs. A job delivered too often, or
        one that cannot be read, goes to the dead letters on the way and its journal ends in a
        Failure. None when nothing came within timeout_s. Raises BusUnavailable.
        """
        deadline = time.monotonic() + timeout_s
        await self._prune_once()
        while True:
            raw = await self._next(consumer)
            delivery = await self._open(raw) if raw else None
            left_s = deadline - time.monotonic()
            if delivery is not None or (raw is None and left_s <= 0):
                return delivery
            if raw is None:
                await self._wait(left_s)

    async def renew(self, consumer: str, delivery: Delivery) -> None:
        """Keep a job that takes longer than the queue's idle limit, and its journal.

        Raises Fenced when another consumer has it by now, BusUnavailable.
        """
        tenant, _, entry = delivery.token.rpartition("/")
        keys, arguments = [self._link.keys.queue(tenant)], [GROUP, consumer, entry]
        reply = await self._link.call(lambda _: self._renew(keys, cast(list[Argument], arguments)))
        if reply == b"LOST":
            raise rules.delivery_lost(delivery.token, consumer)
        await self._journal.extend(delivery.job.request_id)

    async def release(self, consumer: str, delivery: Delivery) -> None:
        """Give a job back: the next take of any consumer gets it. Not counted as an attempt.

        Nothing happens when another consumer has it by now. Raises BusUnavailable.
        """
        tenant, _, entry = delivery.token.rpartition("/")
        keys = [self._link.keys.queue(tenant), self._link.keys.ready]
        idle_ms, ready_ms = milliseconds(RELEASED_IDLE_S), milliseconds(READY_TTL_S)
        arguments: list[Argument] = [GROUP, consumer, entry, idle_ms, ready_ms]
        await self._link.call(lambda _: self._release(keys, arguments))

    async def ack(self, delivery: Delivery) -> None:
        """The job's effect is in the journal; forget it. Idempotent. Raises BusUnavailable."""
        tenant, _, entry = delivery.token.rpartition("/")
        arguments: list[Argument] = [GROUP, entry, tenant, delivery.job.request_id]
        await self._link.call(lambda _: self._ack(self._job_keys(tenant), arguments))

    async def depth(self, tenant: str = "") -> int:
        """Jobs waiting or running; with `tenant` only that one's. Raises BusUnavailable."""
        keys = self._link.keys
        if tenant:
            return int(
                await self._link.call(lambda _: self._link.commands.xlen(keys.queue(tenant)))
            )
        return int(await self._link.call(lambda _: self._depth([keys.tenants], [keys.queues])))

    async def backlog(self) -> Backlog:
        """How the jobs of all tenants stand. Raises BusUnavailable."""
        keys = self._link.keys
        where, arguments = (
            [keys.tenants, keys.dead_letters],
            cast(list[Argument], [GROUP, keys.queues]),
        )
        found = await self._link.call(lambda _: self._backlog(where, arguments))
        depth, taken, dead = (int(number) for number in found)
        return Backlog(waiting=max(0, depth - taken), taken=taken, dead_letters=dead)

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The youngest jobs that were given up, youngest first. Raises BusUnavailable."""
        key = self._link.keys.dead_letters
        found = await self._link.call(
            lambda _: self._link.commands.xrevrange(key, count=max(limit, 1))
        )
        return [_letter(raw) for raw in cast(list[RawEntry], found)[: max(limit, 0)]]

    async def replay(self, dead_letter_id: str) -> GenerateJob:
        """Queue a dead letter's job again, under its request id and with a new journal.

        The letter is gone then. Raises UnknownRequest when there is none of this id,
        ProtocolViolation when its payload cannot be read, DuplicateRequest while another run of
        the request has not ended, and as `publish`.
        """
        payload = await self._letter_payload(dead_letter_id)
        job, key = decode_job(payload), self._link.keys.dead_letters
        # One nonce per letter: a replay that broke in the middle goes on when it is tried again.
        await self._create_and_queue(job, payload, f"dead-{dead_letter_id}", is_replay=True)
        await self._link.call(lambda _: self._link.commands.xdel(key, dead_letter_id))
        return job

    async def _letter_payload(self, dead_letter_id: str) -> bytes:
        try:
            parse_id(dead_letter_id)
        except ValueError:
            raise rules.no_letter(dead_letter_id) from None
        key = self._link.keys.dead_letters
        found = await self._link.entries(key, dead_letter_id, dead_letter_id, 1)
        if not found:
            raise rules.no_letter(dead_letter_id)
        return found[0][1].get(PAYLOAD_FIELD, b"")

    async def _create_and_queue(
        self, job: GenerateJob, payload: bytes, nonce: str, *, is_replay: bool = False
    ) -> None:
        """Two steps, since a journal and the queue may be on different servers of a cluster.

        A crash in between leaves a journal without a job: the request's next publication, which
        is refused as a duplicate, puts the job in the queue; or the journal expires.
        """
        orphan = await self._journal.create(job, payload, nonce, is_replay=is_replay)
        if orphan is not None:
            if orphan.payload:
                await self._put(orphan.tenant, job.request_id, orphan.payload)
            raise rules.duplicate(job.request_id)
        try:
            reply = await self._put(job.tenant, job.request_id, payload)
        except asyncio.CancelledError:
            await self._journal.discard(job.request_id, nonce)
            raise
        if reply == b"OK" or not await self._journal.discard(job.request_id, nonce):
            return
        limits = self._link.limits
        if reply == b"FULL":
            raise rules.queue_full(limits.queue_limit)
        raise rules.tenant_queue_full(job.tenant, limits.tenant_limit)

    async def _put(self, tenant: str, request_id: str, payload: bytes) -> bytes:
        limits, keys = self._link.limits, self._link.keys
        bounds: list[Argument] = [limits.queue_limit, limits.tenant_limit]
        arguments: list[Argument] = [GROUP, keys.queues, tenant, request_id, payload, *bounds]
        reply: bytes = await self._link.call(
            lambda _: self._enqueue(
                [keys.tenants, keys.queued, keys.ready], [*arguments, milliseconds(READY_TTL_S)]
            )
        )
        return reply

    async def _next(self, consumer: str) -> RawJob | None:
        keys, idle_ms = self._link.keys, milliseconds(self._link.limits.job_idle_s)
        arguments: list[Argument] = [GROUP, keys.queues, consumer, idle_ms]
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

    async def _wait(self, left_s: float) -> None:
        """Until there may be a job: in slices, so that one gone stale is not left waiting."""
        limits, key = self._link.limits, self._link.keys.ready
        slice_s = max(min(left_s, limits.block_s, limits.job_idle_s / 2), 0.001)
        await self._link.call(lambda _: self._link.takes.blpop([key], timeout=slice_s))

    async def _open(self, raw: RawJob) -> Delivery | None:
        """The delivery, or None when the job had to be buried or is left to a newer drafter."""
        opened = rules.open_job(raw, self._link.limits.max_attempts)
        if isinstance(opened, HolaError):
            await self._give_up(raw, opened)
            return None
        return opened

    async def _give_up(self, raw: RawJob, error: HolaError) -> None:
        """End the journal, then bury the job: a crash in between repeats both, to no effect."""
        request_id = request_id_of(raw.payload)
        log.error("job_given_up", request_id=request_id, reason=error.reason, message=error.message)
        if request_id:
            await self._end_journal(request_id, error)
        limits, (_, _, entry) = self._link.limits, raw.token.rpartition("/")
        keys = [*self._job_keys(raw.tenant), self._link.keys.dead_letters]
        arguments: list[Argument] = [GROUP, entry, raw.tenant, request_id]
        reason, kept_ms = f"{error.reason}: {error.message}", milliseconds(limits.dead_letter_ttl_s)
        arguments += [limits.dead_letter_limit, raw.payload, reason, kept_ms]
        await self._link.call(lambda _: self._bury(keys, arguments))

    async def _end_journal(self, request_id: str, error: HolaError) -> None:
        try:
            await self._journal.end(request_id, lambda _: rules.given_up(error))
        except (UnknownRequest, ProtocolViolation) as ended:
            log.warning("journal_not_ended", request_id=request_id, message=ended.message)

    def _job_keys(self, tenant: str) -> list[str]:
        return [self._link.keys.queue(tenant), self._link.keys.tenants, self._link.keys.queued]

    async def _prune_once(self) -> None:
        if not self._is_pruned:
            keys, idle_ms = self._link.keys, milliseconds(FORGOTTEN_CONSUMER_S)
            arguments: list[Argument] = [GROUP, keys.queues, idle_ms]
            await self._link.call(lambda _: self._prune([keys.tenants], arguments))
            self._is_pruned = True


def _letter(raw: RawEntry) -> DeadLetter:
    letter_id, fields = raw
    return DeadLetter(
        id=letter_id.decode(),
        reason=fields.get(REASON_FIELD, b"").decode(errors="replace"),
        request_id=request_id_of(fields.get(PAYLOAD_FIELD, b"")),
        tenant=fields.get(TENANT_FIELD, b"").decode(errors="replace"),
        died_unix_ms=parse_id(letter_id)[0],
    )


def _payload(fields: list[Any]) -> bytes:
    """The payload out of a flat list of names and values; empty when there is none."""
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    found: bytes = pairs.get(PAYLOAD_FIELD, b"")
    return found
