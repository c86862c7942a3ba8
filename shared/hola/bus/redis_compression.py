"""Compression jobs on Redis: hola.bus.redis_queue with a record per job that says how far it is."""

from __future__ import annotations

import time
from dataclasses import replace

from hola.bus import compression_rules, compression_scripts, rules
from hola.bus.redis_link import Argument, RedisLink, milliseconds
from hola.bus.redis_queue import READY_TTL_S, RELEASED_IDLE_S, RedisQueue
from hola.bus.rules import RawJob
from hola.bus.streams import COMPRESSION_GROUP
from hola.compression.job import (
    CompressionDelivery,
    CompressionJob,
    JobState,
    JobStatus,
    check_job,
    job_key,
)
from hola.convert.compression import (
    decode_status,
    encode_compression,
    encode_status,
    name_of,
    without_text,
)
from hola.errors import HolaError, UnknownRequest
from hola.telemetry import get_logger

log = get_logger(__name__)


class RedisCompression:
    """compression.queue.CompressionQueue on Redis streams."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._keys = link.keys.compression
        self._queue = RedisQueue(link, self._keys, COMPRESSION_GROUP)
        self._submit = link.script(compression_scripts.SUBMIT)
        self._report = link.script(compression_scripts.REPORT)
        self._release = link.script(compression_scripts.RELEASE)
        self._finish = link.script(compression_scripts.FINISH)
        self._end = link.script(compression_scripts.END)

    async def submit(self, job: CompressionJob, status: JobStatus) -> None:
        """See CompressionQueue."""
        payload, limits, keys = encode_compression(check_job(job)), self._link.limits, self._keys
        where = [keys.tenants, keys.queued, keys.ready, self._record(job.key)]
        arguments: list[Argument] = [COMPRESSION_GROUP, keys.queues, job.tenant, job.key, payload]
        arguments += [limits.compression_limit, limits.tenant_compression_limit]
        arguments += [milliseconds(READY_TTL_S), encode_status(status)]
        arguments += [milliseconds(limits.waiting_compression_ttl_s)]
        ours = False

        async def submit(repeated: bool) -> bytes:
            nonlocal ours
            ours = repeated
            reply: bytes = await self._submit(where, arguments)
            return reply

        reply = await self._link.call(submit)
        if reply == b"TAKEN" and not (ours and await self._is_still(job, status)):
            raise compression_rules.job_taken(job.job_id)
        if reply == b"FULL":
            raise rules.queue_full(limits.compression_limit)
        if reply == b"TENANT_FULL":
            raise rules.tenant_queue_full(job.tenant, limits.tenant_compression_limit)

    async def take(self, consumer: str, *, timeout_s: float) -> CompressionDelivery | None:
        """See CompressionQueue."""
        deadline = time.monotonic() + timeout_s
        await self._queue.prune_once()
        while True:
            raw = await self._queue.next(consumer)
            delivery = await self._open(raw, consumer) if raw else None
            left_s = deadline - time.monotonic()
            if delivery is not None or (raw is None and left_s <= 0):
                return delivery
            if raw is None:
                await self._queue.wait(left_s)

    async def report(self, consumer: str, delivery: CompressionDelivery, status: JobStatus) -> None:
        """See CompressionQueue."""
        keys = [self._queue.job_keys(delivery.token)[0], self._record(delivery.job.key)]
        ttl_ms = milliseconds(self._link.limits.waiting_compression_ttl_s)
        arguments = [*self._queue.owner(consumer, delivery.token), encode_status(status), ttl_ms]
        if await self._link.call(lambda _: self._report(keys, arguments)) == b"LOST":
            raise rules.delivery_lost(delivery.token, consumer)

    async def release(
        self, consumer: str, delivery: CompressionDelivery, status: JobStatus
    ) -> None:
        """See CompressionQueue."""
        queue, record = self._queue.job_keys(delivery.token)[0], self._record(delivery.job.key)
        keys = [queue, self._keys.ready, record]
        arguments = [*self._queue.owner(consumer, delivery.token), milliseconds(RELEASED_IDLE_S)]
        arguments += [milliseconds(READY_TTL_S), encode_status(status)]
        arguments += [milliseconds(self._link.limits.waiting_compression_ttl_s)]
        await self._link.call(lambda _: self._release(keys, arguments))

    async def finish(self, consumer: str, delivery: CompressionDelivery, status: JobStatus) -> None:
        """See CompressionQueue."""
        job, ttl_ms = delivery.job, milliseconds(self._link.limits.compression_ttl_s)
        queue, tenants, queued = self._queue.job_keys(delivery.token)
        keys = [queue, self._record(job.key), tenants, queued]
        arguments = [*self._queue.owner(consumer, delivery.token), encode_status(status), ttl_ms]
        arguments += [job.tenant, job.key]
        if await self._link.call(lambda _: self._finish(keys, arguments)) == b"LOST":
            raise rules.delivery_lost(delivery.token, consumer)

    async def cancel(self, tenant: str, job_id: str) -> bool:
        """See CompressionQueue."""
        status = await self.status(tenant, job_id)
        reply = await self._close(job_key(tenant, job_id), status.cancelled())
        if reply == b"LOST":
            raise compression_rules.no_job(job_id)
        return reply == b"OK"

    async def status(self, tenant: str, job_id: str) -> JobStatus:
        """See CompressionQueue."""
        key = self._record(job_key(tenant, job_id))
        payload = await self._link.call(lambda _: self._link.commands.hget(key, "status"))
        if payload is None:
            raise compression_rules.no_job(job_id)
        return decode_status(payload)

    async def depth(self, tenant: str = "") -> int:
        """See CompressionQueue."""
        return await self._queue.depth(tenant)

    async def _open(self, raw: RawJob, consumer: str) -> CompressionDelivery | None:
        opened = compression_rules.open_compression(raw, self._link.limits.max_attempts)
        if opened is None:
            return None
        if isinstance(opened, HolaError):
            await self._give_up(raw, opened)
            return None
        try:
            status = await self.status(opened.tenant, opened.job_id)
        except UnknownRequest:  # its record has expired: nobody can ask for it any more
            await self._queue.forget(raw.token, opened.key)
            return None
        return compression_rules.delivered(opened, raw, status, consumer)

    async def _give_up(self, raw: RawJob, error: HolaError) -> None:
        """Bury the job, then end its status; a crash in between repeats nothing but the status."""
        job_id = name_of(raw.payload)
        log.error("compression_given_up", job_id=job_id, message=error.message)
        if job_id:
            try:
                last = await self.status(raw.tenant, job_id)
            except UnknownRequest:
                last = JobStatus(job_id=job_id, state=JobState.QUEUED)
            await self._write_end(job_key(raw.tenant, job_id), last.failed(error))
        letter = replace(raw, payload=without_text(raw.payload))
        name, reason = job_key(raw.tenant, job_id), f"{error.reason}: {error.message}"
        await self._queue.bury(letter, name, reason)

    async def _write_end(self, key: str, status: JobStatus) -> None:
        """The end alone: the job stays where it is for `bury`, which moves it."""
        record, ttl_ms = self._record(key), milliseconds(self._link.limits.compression_ttl_s)

        async def write(_: bool) -> None:
            fields = {"status": encode_status(status), "ended": b"1"}
            await self._link.commands.hset(record, mapping=fields)
            await self._link.commands.pexpire(record, ttl_ms)

        await self._link.call(write)

    async def _close(self, key: str, status: JobStatus) -> bytes:
        keys = [self._keys.tenants, self._record(key), self._keys.queued]
        arguments: list[Argument] = [COMPRESSION_GROUP, self._keys.queues, key]
        arguments += [encode_status(status), milliseconds(self._link.limits.compression_ttl_s)]
        reply: bytes = await self._link.call(lambda _: self._end(keys, arguments))
        return reply

    async def _is_still(self, job: CompressionJob, status: JobStatus) -> bool:
        """Whether the job under this id is the one whose submission's answer was lost."""
        return (await self.status(job.tenant, job.job_id)) == status

    def _record(self, key: str) -> str:
        return self._link.keys.compression_job(key)
