"""Compression jobs in memory; behaves as hola.bus.redis_compression."""

from __future__ import annotations

import time
from dataclasses import replace

from hola.bus import compression_rules, rules
from hola.bus.memory_queue import StoredJob
from hola.bus.memory_store import MemoryStore
from hola.bus.rules import RawJob
from hola.bus.streams import BusLimits
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
from hola.errors import Fenced, HolaError
from hola.telemetry import get_logger

log = get_logger(__name__)


class MemoryCompression:
    """compression.queue.CompressionQueue in memory."""

    def __init__(self, store: MemoryStore, limits: BusLimits) -> None:
        self._store = store
        self._queue = store.compression
        self._limits = limits

    async def submit(self, job: CompressionJob, status: JobStatus) -> None:
        """See CompressionQueue."""
        payload, limits = encode_compression(check_job(job)), self._limits
        if self._store.record(job.key) is not None:
            raise compression_rules.job_taken(job.job_id)
        if self._queue.depth() >= limits.compression_limit:
            raise rules.queue_full(limits.compression_limit)
        if self._queue.depth(job.tenant) >= limits.tenant_compression_limit:
            raise rules.tenant_queue_full(job.tenant, limits.tenant_compression_limit)
        self._write(job.key, status)
        self._queue.put(job.tenant, payload)

    async def take(self, consumer: str, *, timeout_s: float) -> CompressionDelivery | None:
        """See CompressionQueue."""
        deadline = time.monotonic() + timeout_s
        while True:
            stored = self._queue.next(consumer, self._limits.job_idle_s)
            delivery = self._open(stored, consumer) if stored else None
            left_s = deadline - time.monotonic()
            if delivery is not None or (stored is None and left_s <= 0):
                return delivery
            if stored is None:
                await self._queue.wait(left_s, self._limits)

    async def report(self, consumer: str, delivery: CompressionDelivery, status: JobStatus) -> None:
        """See CompressionQueue."""
        self._check_open(consumer, delivery)
        self._queue.renew(consumer, delivery.token)
        self._write(delivery.job.key, status)

    async def release(
        self, consumer: str, delivery: CompressionDelivery, status: JobStatus
    ) -> None:
        """See CompressionQueue."""
        try:
            self._check_open(consumer, delivery)
            self._queue.renew(consumer, delivery.token)
        except Fenced:
            return
        self._queue.release(consumer, delivery.token)
        self._write(delivery.job.key, status)

    async def finish(self, consumer: str, delivery: CompressionDelivery, status: JobStatus) -> None:
        """See CompressionQueue."""
        self._check_open(consumer, delivery)
        self._queue.renew(consumer, delivery.token)
        self._queue.forget(delivery.token)
        self._write(delivery.job.key, status)

    async def cancel(self, tenant: str, job_id: str) -> bool:
        """See CompressionQueue."""
        status, key = await self.status(tenant, job_id), job_key(tenant, job_id)
        if status.state.ended:
            return False
        for stored in list(self._queue.jobs.values()):
            if job_key(stored.tenant, name_of(stored.payload)) == key:
                self._queue.forget(stored.token)
        self._write(key, status.cancelled())
        return True

    async def status(self, tenant: str, job_id: str) -> JobStatus:
        """See CompressionQueue."""
        record = self._store.record(job_key(tenant, job_id))
        if record is None:
            raise compression_rules.no_job(job_id)
        return decode_status(record)

    async def depth(self, tenant: str = "") -> int:
        """See CompressionQueue."""
        return self._queue.depth(tenant)

    def _open(self, stored: StoredJob, consumer: str) -> CompressionDelivery | None:
        raw = RawJob(stored.token, stored.tenant, stored.payload, stored.attempts)
        opened = compression_rules.open_compression(raw, self._limits.max_attempts)
        if opened is None:
            return None
        if isinstance(opened, HolaError):
            self._give_up(stored, opened)
            return None
        record = self._store.record(opened.key)
        if record is None:
            self._queue.forget(stored.token)
            return None
        return compression_rules.delivered(opened, raw, decode_status(record), consumer)

    def _give_up(self, stored: StoredJob, error: HolaError) -> None:
        job_id = name_of(stored.payload)
        log.error("compression_given_up", job_id=job_id, message=error.message)
        if job_id:
            key = job_key(stored.tenant, job_id)
            record = self._store.record(key)
            last = JobStatus(job_id=job_id, state=JobState.QUEUED)
            self._write(key, (decode_status(record) if record else last).failed(error))
        reason = f"{error.reason}: {error.message}"
        letter = replace(stored, payload=without_text(stored.payload))
        self._queue.bury(letter, reason, self._limits.dead_letter_limit)

    def _check_open(self, consumer: str, delivery: CompressionDelivery) -> None:
        record = self._store.record(delivery.job.key)
        if record is None or decode_status(record).state.ended:
            raise rules.delivery_lost(delivery.token, consumer)

    def _write(self, key: str, status: JobStatus) -> None:
        limits = self._limits
        ttl_s = limits.compression_ttl_s if status.state.ended else limits.waiting_compression_ttl_s
        self._store.set_record(key, encode_status(status), ttl_s)
