"""Ingest jobs in memory; behaves as hola.bus.redis_ingests."""

from __future__ import annotations

import time

from hola.bus import rules
from hola.bus.memory_queue import StoredJob
from hola.bus.memory_store import MemoryStore
from hola.bus.rules import RawJob
from hola.bus.streams import BusLimits
from hola.convert import decode_report, encode_ingest, encode_report, ingest_id_of
from hola.errors import HolaError, UnknownRequest
from hola.retrieval.ingest_job import IngestDelivery, IngestJob, IngestReport
from hola.telemetry import get_logger
from hola.validate import check_tenant

log = get_logger(__name__)


class MemoryReports:
    """retrieval.ingest_job.IngestReports in memory."""

    def __init__(self, store: MemoryStore, limits: BusLimits) -> None:
        self._store = store
        self._limits = limits

    async def report(self, tenant: str, job_id: str) -> IngestReport:
        """The present one. Raises UnknownRequest."""
        payload, until = self._store.ingest_reports.get((tenant, job_id), (b"", 0.0))
        if until <= self._store.clock():
            raise rules.no_ingest(job_id)
        return decode_report(payload)

    async def reports(self, tenant: str) -> tuple[IngestReport, ...]:
        """Those of a tenant's youngest jobs, youngest first."""
        ids = [job_id for owner, job_id in self._store.ingest_reports if owner == tenant]
        found = []
        for job_id in ids:
            try:
                found.append(await self.report(tenant, job_id))
            except UnknownRequest:
                continue
        found.sort(key=lambda one: (one.submitted_unix_ms, one.job_id), reverse=True)
        return tuple(found[: self._limits.ingest_reports])

    def keep(self, tenant: str, report: IngestReport, ttl_s: float) -> None:
        """Write one; drop all that have expired."""
        now, kept = self._store.clock(), self._store.ingest_reports
        for gone in [key for key, (_, until) in kept.items() if until <= now]:
            del kept[gone]
        kept[tenant, report.job_id] = encode_report(report), now + ttl_s


class MemoryIngests:
    """retrieval.ingest_job.IngestQueue in memory, for the spools of one place."""

    def __init__(self, store: MemoryStore, limits: BusLimits, place: str) -> None:
        self._store = store
        self._limits = limits
        self._stored = store.ingest_queue(place)
        self._reports = MemoryReports(store, limits)

    async def publish(self, job: IngestJob) -> IngestReport:
        """See IngestQueue."""
        check_tenant(job.tenant)
        payload, limits = encode_ingest(job), self._limits
        if self._stored.depth() >= limits.ingest_limit:
            raise rules.queue_full(limits.ingest_limit)
        if self._stored.depth(job.tenant) >= limits.tenant_ingest_limit:
            raise rules.tenant_queue_full(job.tenant, limits.tenant_ingest_limit)
        report = rules.queued_report(job, self._now_ms())
        self._reports.keep(job.tenant, report, limits.waiting_ingest_ttl_s)
        self._stored.put(job.tenant, payload)
        return report

    async def take(self, consumer: str, *, timeout_s: float) -> IngestDelivery | None:
        """See IngestQueue."""
        deadline = time.monotonic() + timeout_s
        while True:
            stored = self._stored.next(consumer, self._limits.job_idle_s)
            delivery = await self._open(stored) if stored else None
            left_s = deadline - time.monotonic()
            if delivery is not None or (stored is None and left_s <= 0):
                return delivery
            if stored is None:
                await self._stored.wait(left_s, self._limits)

    async def renew(self, consumer: str, delivery: IngestDelivery, report: IngestReport) -> None:
        """See IngestQueue."""
        self._stored.renew(consumer, delivery.token)
        self._reports.keep(delivery.job.tenant, report, self._limits.waiting_ingest_ttl_s)

    async def release(self, consumer: str, delivery: IngestDelivery) -> None:
        """See IngestQueue."""
        self._stored.release(consumer, delivery.token)

    async def finish(self, consumer: str, delivery: IngestDelivery, report: IngestReport) -> None:
        """See IngestQueue."""
        self._stored.renew(consumer, delivery.token)
        self._reports.keep(delivery.job.tenant, report, self._limits.ingest_ttl_s)
        self._stored.forget(delivery.token)

    async def depth(self, tenant: str = "") -> int:
        """See IngestQueue."""
        return self._stored.depth(tenant)

    async def _open(self, stored: StoredJob) -> IngestDelivery | None:
        raw = RawJob(stored.token, stored.tenant, stored.payload, stored.attempts)
        opened = rules.open_ingest(raw, self._limits.max_attempts)
        if isinstance(opened, HolaError):
            await self._give_up(stored, opened)
            return None
        return opened

    async def _give_up(self, stored: StoredJob, error: HolaError) -> None:
        job_id = ingest_id_of(stored.payload)
        log.error("ingest_given_up", job_id=job_id, reason=error.reason, message=error.message)
        try:
            last = await self._reports.report(stored.tenant, job_id)
        except UnknownRequest:
            last = IngestReport(job_id=job_id)
        failed = rules.failed_report(last, error, self._now_ms())
        self._reports.keep(stored.tenant, failed, self._limits.ingest_ttl_s)
        reason = f"{error.reason}: {error.message}"
        self._stored.bury(stored, reason, self._limits.dead_letter_limit)

    def _now_ms(self) -> int:
        return round(self._store.wall() * 1000)
