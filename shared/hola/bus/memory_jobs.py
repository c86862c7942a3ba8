"""The job queue in memory; behaves as hola.bus.redis_jobs."""

from __future__ import annotations

import time

from hola.bus import rules
from hola.bus.memory_journal import MemoryJournal
from hola.bus.memory_queue import StoredJob
from hola.bus.memory_store import MemoryStore
from hola.bus.ports import Backlog
from hola.bus.rules import RawJob
from hola.bus.streams import SEAL_ID, BusLimits
from hola.convert import decode_job, encode_job, request_id_of
from hola.errors import HolaError, ProtocolViolation, UnknownRequest
from hola.telemetry import get_logger
from hola.types import DeadLetter, Delivery, GenerateJob
from hola.validate import check_tenant

log = get_logger(__name__)


class MemoryJobs:
    """ports.JobQueue in memory."""

    def __init__(self, store: MemoryStore, limits: BusLimits, journal: MemoryJournal) -> None:
        self._store = store
        self._stored = store.queue
        self._limits = limits
        self._journal = journal

    async def publish(self, job: GenerateJob) -> None:
        """Queue a job exactly once per request id, and create its journal.

        Raises DuplicateRequest, Overloaded at the queue's limit, QuotaExceeded at the tenant's,
        InvalidRequest on a value that does not fit the wire or a tenant that is no name.
        """
        check_tenant(job.tenant)
        payload = encode_job(job)
        if self._store.journal(job.request_id) is not None:
            raise rules.duplicate(job.request_id)
        self._queue(job, payload)

    async def take(self, consumer: str, *, timeout_s: float) -> Delivery | None:
        """Next job for `consumer`: first one whose consumer went silent, else a new one.

        Among several, of the tenant with the fewest running jobs. A job delivered too often, or
        one that cannot be read, goes to the dead letters on the way and its journal ends in a
        Failure. None when nothing came within timeout_s.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            stored = self._stored.next(consumer, self._limits.job_idle_s)
            delivery = self._open(stored) if stored else None
            left_s = deadline - time.monotonic()
            if delivery is not None or (stored is None and left_s <= 0):
                return delivery
            if stored is None:
                await self._stored.wait(left_s, self._limits)

    async def renew(self, consumer: str, delivery: Delivery) -> None:
        """Keep a job that takes longer than the queue's idle limit, and its journal.

        Raises Fenced when another consumer has it by now.
        """
        self._stored.renew(consumer, delivery.token)
        journal = self._store.journal(delivery.job.request_id)
        if journal is not None and journal.last_id != SEAL_ID:
            expires_at = self._store.clock() + self._limits.running_ttl_s
            journal.expires_at = max(journal.expires_at, expires_at)

    async def release(self, consumer: str, delivery: Delivery) -> None:
        """Give a job back: the next take of any consumer gets it. Not counted as an attempt.

        Nothing happens when another consumer has it by now.
        """
        self._stored.release(consumer, delivery.token)

    async def ack(self, delivery: Delivery) -> None:
        """The job's effect is in the journal; forget it. Idempotent."""
        self._stored.forget(delivery.token)

    async def depth(self, tenant: str = "") -> int:
        """Jobs waiting or running; with `tenant` only that one's."""
        return self._stored.depth(tenant)

    async def backlog(self) -> Backlog:
        """How the jobs of all tenants stand."""
        jobs = self._stored.jobs.values()
        taken = sum(job.is_pending for job in jobs)
        dead = len(self._stored.dead_letters)
        return Backlog(waiting=len(jobs) - taken, taken=taken, dead_letters=dead)

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The youngest jobs that were given up, youngest first."""
        youngest = list(reversed(self._stored.dead_letters.items()))[: max(limit, 0)]
        return [
            DeadLetter(
                id=letter_id,
                reason=letter.reason,
                request_id=request_id_of(letter.payload),
                tenant=letter.tenant,
                died_unix_ms=letter.died_unix_ms,
            )
            for letter_id, letter in youngest
        ]

    async def replay(self, dead_letter_id: str) -> GenerateJob:
        """Queue a dead letter's job again, under its request id and with a new journal.

        The letter is gone then. Raises UnknownRequest when there is none of this id,
        ProtocolViolation when its payload cannot be read, DuplicateRequest while another run of
        the request has not ended, and as `publish`.
        """
        letter = self._stored.dead_letters.get(dead_letter_id)
        if letter is None:
            raise rules.no_letter(dead_letter_id)
        job = decode_job(letter.payload)
        if not await self._journal.has_ended(job.request_id):
            raise rules.duplicate(job.request_id)
        self._queue(job, letter.payload)
        del self._stored.dead_letters[dead_letter_id]
        return job

    def _queue(self, job: GenerateJob, payload: bytes) -> None:
        limits, stored = self._limits, self._stored
        if stored.depth() >= limits.queue_limit:
            raise rules.queue_full(limits.queue_limit)
        if stored.depth(job.tenant) >= limits.tenant_limit:
            raise rules.tenant_queue_full(job.tenant, limits.tenant_limit)
        self._store.add_journal(job, limits.running_ttl_s)
        stored.put(job.tenant, payload)

    def _open(self, stored: StoredJob) -> Delivery | None:
        """The delivery, or None when the job had to be buried or is left to a newer drafter."""
        raw = RawJob(stored.token, stored.tenant, stored.payload, stored.attempts)
        opened = rules.open_job(raw, self._limits.max_attempts)
        if isinstance(opened, HolaError):
            self._give_up(stored, opened)
            return None
        return opened

    def _give_up(self, stored: StoredJob, error: HolaError) -> None:
        request_id = request_id_of(stored.payload)
        log.error("job_given_up", request_id=request_id, reason=error.reason, message=error.message)
        try:
            self._journal.end(request_id, lambda _: rules.given_up(error))
        except (UnknownRequest, ProtocolViolation) as ended:
            log.warning("journal_not_ended", request_id=request_id, message=ended.message)
        reason = f"{error.reason}: {error.message}"
        self._stored.bury(stored, reason, self._limits.dead_letter_limit)
