"""The job queue on Redis: a stream per tenant with one consumer group, and dead letters."""

from __future__ import annotations

import asyncio
import time
import uuid

from hola.bus import rules
from hola.bus.ports import Backlog
from hola.bus.redis_journal import RedisJournal
from hola.bus.redis_link import RawEntry, RedisLink
from hola.bus.redis_queue import RedisQueue
from hola.bus.rules import RawJob
from hola.bus.streams import GROUP, PAYLOAD_FIELD, REASON_FIELD, TENANT_FIELD, parse_id
from hola.convert import decode_job, encode_job, request_id_of
from hola.errors import HolaError, ProtocolViolation, UnknownRequest
from hola.telemetry import get_logger
from hola.types import DeadLetter, Delivery, GenerateJob
from hola.validate import check_tenant

log = get_logger(__name__)


class RedisJobs:
    """bus.ports.JobQueue on Redis streams.

    What makes it safe: creation of the journal and each step of the queue are one script each, so
    no crash can stop one half-way; a journal without a job is found by whoever publishes the
    request again; and a job is forgotten only after its journal ended.
    """

    def __init__(self, link: RedisLink, journal: RedisJournal) -> None:
        self._limits = link.limits
        self._queue = RedisQueue(link, link.keys, GROUP)
        self._journal = journal

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
        await self._queue.prune_once()
        while True:
            raw = await self._queue.next(consumer)
            delivery = await self._open(raw) if raw else None
            left_s = deadline - time.monotonic()
            if delivery is not None or (raw is None and left_s <= 0):
                return delivery
            if raw is None:
                await self._queue.wait(left_s)

    async def renew(self, consumer: str, delivery: Delivery) -> None:
        """Keep a job that takes longer than the queue's idle limit, and its journal.

        Raises Fenced when another consumer has it by now, BusUnavailable.
        """
        await self._queue.renew(consumer, delivery.token)
        await self._journal.extend(delivery.job.request_id)

    async def release(self, consumer: str, delivery: Delivery) -> None:
        """Give a job back: the next take of any consumer gets it. Not counted as an attempt.

        Nothing happens when another consumer has it by now. Raises BusUnavailable.
        """
        await self._queue.release(consumer, delivery.token)

    async def ack(self, delivery: Delivery) -> None:
        """The job's effect is in the journal; forget it. Idempotent. Raises BusUnavailable."""
        await self._queue.forget(delivery.token, delivery.job.request_id)

    async def depth(self, tenant: str = "") -> int:
        """Jobs waiting or running; with `tenant` only that one's. Raises BusUnavailable."""
        return await self._queue.depth(tenant)

    async def backlog(self) -> Backlog:
        """How the jobs of all tenants stand. Raises BusUnavailable."""
        depth, taken, dead = await self._queue.backlog()
        return Backlog(waiting=max(0, depth - taken), taken=taken, dead_letters=dead)

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The youngest jobs that were given up, youngest first. Raises BusUnavailable."""
        return [_letter(raw) for raw in await self._queue.letters(limit)]

    async def replay(self, dead_letter_id: str) -> GenerateJob:
        """Queue a dead letter's job again, under its request id and with a new journal.

        The letter is gone then. Raises UnknownRequest when there is none of this id,
        ProtocolViolation when its payload cannot be read, DuplicateRequest while another run of
        the request has not ended, and as `publish`.
        """
        payload = await self._queue.letter_payload(dead_letter_id)
        job = decode_job(payload)
        # One nonce per letter: a replay that broke in the middle goes on when it is tried again.
        await self._create_and_queue(job, payload, f"dead-{dead_letter_id}", is_replay=True)
        await self._queue.drop_letter(dead_letter_id)
        return job

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
        limits = self._limits
        if reply == b"FULL":
            raise rules.queue_full(limits.queue_limit)
        raise rules.tenant_queue_full(job.tenant, limits.tenant_limit)

    async def _put(self, tenant: str, request_id: str, payload: bytes) -> bytes:
        limits = self._limits
        return await self._queue.put(
            tenant,
            request_id,
            payload,
            limit=limits.queue_limit,
            tenant_limit=limits.tenant_limit,
        )

    async def _open(self, raw: RawJob) -> Delivery | None:
        """The delivery, or None when the job had to be buried or is left to a newer drafter."""
        opened = rules.open_job(raw, self._limits.max_attempts)
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
        await self._queue.bury(raw, request_id, f"{error.reason}: {error.message}")

    async def _end_journal(self, request_id: str, error: HolaError) -> None:
        try:
            await self._journal.end(request_id, lambda _: rules.given_up(error))
        except (UnknownRequest, ProtocolViolation) as ended:
            log.warning("journal_not_ended", request_id=request_id, message=ended.message)


def _letter(raw: RawEntry) -> DeadLetter:
    letter_id, fields = raw
    return DeadLetter(
        id=letter_id.decode(),
        reason=fields.get(REASON_FIELD, b"").decode(errors="replace"),
        request_id=request_id_of(fields.get(PAYLOAD_FIELD, b"")),
        tenant=fields.get(TENANT_FIELD, b"").decode(errors="replace"),
        died_unix_ms=parse_id(letter_id)[0],
    )
