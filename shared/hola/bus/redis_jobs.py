"""The job queue as a Redis stream with one consumer group, and a stream of dead letters."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from redis.exceptions import ResponseError

from hola.bus import rules, scripts
from hola.bus.redis_journal import RedisJournal
from hola.bus.redis_link import Argument, RawEntry, RedisLink, is_no_group, milliseconds
from hola.bus.streams import GROUP, PAYLOAD_FIELD, REASON_FIELD, parse_id
from hola.convert import decode_job, encode_job, request_id_of
from hola.errors import HolaError, ProtocolViolation, UnknownRequest
from hola.telemetry import get_logger
from hola.types import DeadLetter, Delivery, GenerateJob

FORGOTTEN_CONSUMER_S = 24 * 3600.0
RELEASED_IDLE_S = 30 * 24 * 3600.0  # longer than any job_idle_s

T = TypeVar("T")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Raw:
    """A delivery before its payload was looked at."""

    id: str
    payload: bytes
    attempts: int


class RedisJobs:
    """ports.JobQueue on Redis streams.

    What makes it safe: publication, claim, heartbeat, acknowledgement and burial are one script
    each, so no crash can stop one half-way; and a job is forgotten only after its journal ended.
    """

    def __init__(self, link: RedisLink, journal: RedisJournal) -> None:
        self._link = link
        self._journal = journal
        self._publish = link.script(scripts.PUBLISH)
        self._claim = link.script(scripts.CLAIM)
        self._renew = link.script(scripts.RENEW)
        self._release = link.script(scripts.RELEASE)
        self._ack = link.script(scripts.ACK)
        self._bury = link.script(scripts.BURY)
        self._prune = link.script(scripts.PRUNE)
        self._is_pruned = False

    async def publish(self, job: GenerateJob) -> None:
        """Queue a job exactly once per request id, and create its journal.

        Raises DuplicateRequest, Overloaded at the queue's limit, InvalidRequest on a value that
        does not fit the wire, BusUnavailable.
        """
        limits, keys = self._link.limits, self._link.keys
        running_ms = milliseconds(limits.running_ttl_s)
        arguments: list[Argument] = [
            encode_job(job),
            limits.queue_limit,
            running_ms,
            uuid.uuid4().hex,
            job.tenant,
            job.request_digest,
        ]
        places = [keys.jobs, keys.journal(job.request_id), keys.request(job.request_id)]
        reply = await self._link.call(lambda _: self._publish(places, arguments))
        if reply == b"DUPLICATE":
            raise rules.duplicate(job.request_id)
        if reply == b"FULL":
            raise rules.queue_full(limits.queue_limit)

    async def take(self, consumer: str, *, timeout_s: float) -> Delivery | None:
        """Next job for `consumer`: first one whose consumer went silent, else a new one.

        A job delivered too often, or one that cannot be read, goes to the dead letters on the way
        and its journal ends in a Failure. None when nothing came within timeout_s. Raises
        BusUnavailable.
        """
        deadline = time.monotonic() + timeout_s
        await self._prune_once()
        while True:
            raw = await self._stale(consumer) or await self._fresh(
                consumer, deadline - time.monotonic()
            )
            delivery = await self._open(raw) if raw else None
            if delivery is not None or (raw is None and time.monotonic() >= deadline):
                return delivery

    async def renew(self, consumer: str, delivery: Delivery) -> None:
        """Keep a job that takes longer than the queue's idle limit, and its journal.

        Raises Fenced when another consumer has it by now, BusUnavailable.
        """
        names, request_id = self._link.keys, delivery.job.request_id
        keys = [names.jobs, names.journal(request_id), names.request(request_id)]
        running_ms = milliseconds(self._link.limits.running_ttl_s)
        arguments: list[Argument] = [GROUP, consumer, delivery.token, running_ms]
        if await self._in_group(lambda: self._renew(keys, arguments)) == b"LOST":
            raise rules.delivery_lost(delivery.token, consumer)

    async def release(self, consumer: str, delivery: Delivery) -> None:
        """Give a job back: the next take of any consumer gets it. Not counted as an attempt.

        Nothing happens when another consumer has it by now. Raises BusUnavailable.
        """
        idle_ms = milliseconds(RELEASED_IDLE_S)
        arguments: list[Argument] = [GROUP, consumer, delivery.token, idle_ms]
        await self._in_group(lambda: self._release([self._link.keys.jobs], arguments))

    async def ack(self, delivery: Delivery) -> None:
        """The job's effect is in the journal; forget it. Idempotent. Raises BusUnavailable."""
        arguments: list[Argument] = [GROUP, delivery.token]
        await self._link.call(lambda _: self._ack([self._link.keys.jobs], arguments))

    async def depth(self, tenant: str = "") -> int:
        """Jobs waiting or running, of every tenant. Raises BusUnavailable."""
        return int(await self._link.call(lambda _: self._link.commands.xlen(self._link.keys.jobs)))

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
        key = self._link.keys.dead_letters
        found = await self._link.entries(key, dead_letter_id, dead_letter_id, 1)
        if not found:
            raise rules.no_letter(dead_letter_id)
        job = decode_job(found[0][1].get(PAYLOAD_FIELD, b""))
        if not await self._journal.has_ended(job.request_id):
            raise rules.duplicate(job.request_id)
        journal = self._link.keys.journal(job.request_id)
        await self._link.call(lambda _: self._link.commands.delete(journal))
        await self.publish(job)
        await self._link.call(lambda _: self._link.commands.xdel(key, dead_letter_id))
        return job

    async def _stale(self, consumer: str) -> _Raw | None:
        arguments: list[Argument] = [GROUP, consumer, milliseconds(self._link.limits.job_idle_s)]
        found = await self._in_group(lambda: self._claim([self._link.keys.jobs], arguments))
        if found is None:
            return None
        entry, fields, attempts = found
        return _Raw(entry.decode(), _payload(fields), int(attempts))

    async def _fresh(self, consumer: str, left_s: float) -> _Raw | None:
        limits, jobs = self._link.limits, self._link.keys.jobs
        # In slices, so that a job gone stale meanwhile is not left waiting for this read's end.
        slice_s = min(left_s, limits.block_s, limits.job_idle_s / 2)
        block = milliseconds(slice_s) if left_s > 0 else None
        found = await self._in_group(
            lambda: self._link.takes.xreadgroup(GROUP, consumer, {jobs: ">"}, count=1, block=block)
        )
        if not found:
            return None
        streams = cast(list[tuple[bytes, list[RawEntry]]], found)
        entry, fields = streams[0][1][0]
        return _Raw(entry.decode(), fields.get(PAYLOAD_FIELD, b""), 1)

    async def _open(self, raw: _Raw) -> Delivery | None:
        """The delivery, or None when the job had to be buried."""
        try:
            job = decode_job(raw.payload)
        except ProtocolViolation as error:
            await self._give_up(raw, request_id_of(raw.payload), error)
            return None
        if raw.attempts > self._link.limits.max_attempts:
            worn_out = rules.worn_out(self._link.limits.max_attempts)
            await self._give_up(raw, job.request_id, worn_out)
            return None
        return Delivery(job=job, token=raw.id, attempts=raw.attempts)

    async def _give_up(self, raw: _Raw, request_id: str, error: HolaError) -> None:
        """End the journal, then bury the job: a crash in between repeats both, to no effect."""
        log.error("job_given_up", request_id=request_id, reason=error.reason, message=error.message)
        if request_id:
            await self._end_journal(request_id, error)
        keys = [self._link.keys.jobs, self._link.keys.dead_letters]
        limit = self._link.limits.dead_letter_limit
        arguments: list[Argument] = [
            GROUP,
            raw.id,
            limit,
            raw.payload,
            f"{error.reason}: {error.message}",
        ]
        await self._link.call(lambda _: self._bury(keys, arguments))

    async def _end_journal(self, request_id: str, error: HolaError) -> None:
        try:
            await self._journal.end(request_id, lambda _: rules.given_up(error))
        except (UnknownRequest, ProtocolViolation) as ended:
            log.warning("journal_not_ended", request_id=request_id, message=ended.message)

    async def _in_group(self, command: Callable[[], Awaitable[T]]) -> T:
        """Run a command that needs the consumer group; make the group when it is gone.

        A new group starts at the stream's beginning: what runs is delivered again, and the journal
        fences whoever comes second.
        """

        async def attempt(_: bool) -> T:
            try:
                return await command()
            except ResponseError as error:
                if not is_no_group(error):
                    raise
                await self._make_group()
                return await command()

        return await self._link.call(attempt)

    async def _make_group(self) -> None:
        try:
            await self._link.commands.xgroup_create(self._link.keys.jobs, GROUP, "0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _prune_once(self) -> None:
        if not self._is_pruned:
            arguments: list[Argument] = [GROUP, milliseconds(FORGOTTEN_CONSUMER_S)]
            await self._in_group(lambda: self._prune([self._link.keys.jobs], arguments))
            self._is_pruned = True


def _letter(raw: RawEntry) -> DeadLetter:
    letter_id, fields = raw
    payload = fields.get(PAYLOAD_FIELD, b"")
    try:
        tenant = decode_job(payload).tenant
    except ProtocolViolation:
        tenant = ""
    return DeadLetter(
        id=letter_id.decode(),
        reason=fields.get(REASON_FIELD, b"").decode(errors="replace"),
        request_id=request_id_of(payload),
        tenant=tenant,
        died_unix_ms=parse_id(letter_id)[0],
    )


def _payload(fields: list[Any]) -> bytes:
    """The payload out of a flat list of names and values; empty when there is none."""
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    found: bytes = pairs.get(PAYLOAD_FIELD, b"")
    return found
