"""Ingest jobs on Redis: hola.bus.redis_queue with a report per job that expires."""

from __future__ import annotations

import time
from collections.abc import Callable

from hola.bus import ingest_scripts, rules
from hola.bus.redis_link import Argument, RedisLink, milliseconds
from hola.bus.redis_queue import RedisQueue
from hola.bus.rules import RawJob
from hola.bus.streams import INGEST_GROUP
from hola.convert import decode_report, encode_ingest, encode_report, ingest_id_of
from hola.errors import HolaError, ProtocolViolation, UnknownRequest
from hola.retrieval.ingest_job import IngestDelivery, IngestJob, IngestReport, IngestState
from hola.telemetry import get_logger
from hola.validate import check_tenant

log = get_logger(__name__)


class RedisReports:
    """retrieval.ingest_job.IngestReports: a key per job."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def report(self, tenant: str, job_id: str) -> IngestReport:
        """The present one. Raises UnknownRequest, BusUnavailable."""
        key = self._link.keys.ingest_report(tenant, job_id)
        payload = await self._link.call(lambda _: self._link.commands.get(key))
        if payload is None:
            raise rules.no_ingest(job_id)
        return decode_report(payload)

    async def reports(self, tenant: str) -> tuple[IngestReport, ...]:
        """Those of a tenant's youngest jobs, youngest first. Raises BusUnavailable."""
        link, key = self._link, self._link.keys.ingest_reports(tenant)
        found = await link.call(lambda _: link.commands.zrevrange(key, 0, -1))
        reports = []
        for job_id in found:
            try:
                reports.append(await self.report(tenant, job_id.decode(errors="replace")))
            except (UnknownRequest, ProtocolViolation):
                continue  # expired, or of a later version
        return tuple(reports)


class RedisIngests:
    """retrieval.ingest_job.IngestQueue on Redis streams, for the spools of one place."""

    def __init__(
        self, link: RedisLink, place: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` gives Unix seconds."""
        self._link = link
        self._clock = clock
        self._queue = RedisQueue(link, link.keys.ingests(place), INGEST_GROUP)
        self._reports = RedisReports(link)
        self._report = link.script(ingest_scripts.REPORT)
        self._finish = link.script(ingest_scripts.FINISH)
        self._announce = link.script(ingest_scripts.ANNOUNCE)

    async def publish(self, job: IngestJob) -> IngestReport:
        """See IngestQueue."""
        check_tenant(job.tenant)
        limits, payload = self._link.limits, encode_ingest(job)
        report = rules.queued_report(job, self._now_ms())
        reply = await self._queue.put(
            job.tenant,
            job.job_id,
            payload,
            limit=limits.ingest_limit,
            tenant_limit=limits.tenant_ingest_limit,
        )
        if reply == b"FULL":
            raise rules.queue_full(limits.ingest_limit)
        if reply == b"TENANT_FULL":
            raise rules.tenant_queue_full(job.tenant, limits.tenant_ingest_limit)
        keys = self._link.keys
        where = [keys.ingest_report(job.tenant, job.job_id), keys.ingest_reports(job.tenant)]
        arguments: list[Argument] = [encode_report(report)]
        arguments += [milliseconds(limits.waiting_ingest_ttl_s), job.job_id]
        arguments += [job.submitted_unix_ms, limits.ingest_reports]
        await self._link.call(lambda _: self._announce(where, arguments))
        return report

    async def take(self, consumer: str, *, timeout_s: float) -> IngestDelivery | None:
        """See IngestQueue."""
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

    async def renew(self, consumer: str, delivery: IngestDelivery, report: IngestReport) -> None:
        """See IngestQueue."""
        ttl_ms = milliseconds(self._link.limits.waiting_ingest_ttl_s)
        keys = [self._queue.job_keys(delivery.token)[0], self._report_key(delivery.job)]
        arguments = [*self._queue.owner(consumer, delivery.token), encode_report(report), ttl_ms]
        if await self._link.call(lambda _: self._report(keys, arguments)) == b"LOST":
            raise rules.delivery_lost(delivery.token, consumer)

    async def release(self, consumer: str, delivery: IngestDelivery) -> None:
        """See IngestQueue."""
        await self._queue.release(consumer, delivery.token)

    async def finish(self, consumer: str, delivery: IngestDelivery, report: IngestReport) -> None:
        """See IngestQueue."""
        job, ttl_ms = delivery.job, milliseconds(self._link.limits.ingest_ttl_s)
        queue, tenants, queued = self._queue.job_keys(delivery.token)
        arguments = [*self._queue.owner(consumer, delivery.token), encode_report(report), ttl_ms]
        arguments += [job.tenant, job.job_id]
        keys = [queue, self._report_key(job), tenants, queued]
        if await self._link.call(lambda _: self._finish(keys, arguments)) == b"LOST":
            raise rules.delivery_lost(delivery.token, consumer)

    async def depth(self, tenant: str = "") -> int:
        """See IngestQueue."""
        return await self._queue.depth(tenant)

    async def _open(self, raw: RawJob) -> IngestDelivery | None:
        opened = rules.open_ingest(raw, self._link.limits.max_attempts)
        if isinstance(opened, HolaError):
            await self._give_up(raw, opened)
            return None
        return opened

    async def _give_up(self, raw: RawJob, error: HolaError) -> None:
        """End the report, then bury the job: a crash in between repeats both, to no effect."""
        job_id = ingest_id_of(raw.payload)
        log.error("ingest_given_up", job_id=job_id, reason=error.reason, message=error.message)
        key = self._link.keys.ingest_report(raw.tenant, job_id)
        try:
            last = await self._reports.report(raw.tenant, job_id)
        except (UnknownRequest, ProtocolViolation):
            last = IngestReport(job_id=job_id, state=IngestState.QUEUED)
        failed = encode_report(rules.failed_report(last, error, self._now_ms()))
        ttl_ms = milliseconds(self._link.limits.ingest_ttl_s)
        await self._link.call(lambda _: self._link.commands.set(key, failed, px=ttl_ms))
        await self._queue.bury(raw, job_id, f"{error.reason}: {error.message}")

    def _report_key(self, job: IngestJob) -> str:
        return self._link.keys.ingest_report(job.tenant, job.job_id)

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)
