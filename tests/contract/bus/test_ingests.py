"""Ingest jobs: each goes to one worker, to another if that one dies, and its report outlives it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from hola.errors import Fenced, HolaError, Overloaded, QuotaExceeded, UnknownRequest
from hola.retrieval.ingest_job import (
    IngestDelivery,
    IngestJob,
    IngestOptions,
    IngestQueue,
    IngestReport,
    IngestState,
    Refusal,
)
from tests.support.bus import Backend

PLACE = "here"


def ingest(job_id: str = "j1", tenant: str = "acme", at: int = 1) -> IngestJob:
    return IngestJob(
        job_id=job_id,
        tenant=tenant,
        options=IngestOptions(
            collection="work", chunk_chars=200, overlap_chars=0, prune=("/docs",)
        ),
        files=3,
        bytes=4096,
        digest="d" * 64,
        submitted_unix_ms=at,
    )


def running(job: IngestJob, **counts: int) -> IngestReport:
    return IngestReport(
        job_id=job.job_id, collection="work", state=IngestState.RUNNING, files=3, **counts
    )


async def taken(queue: IngestQueue, consumer: str = "a", timeout_s: float = 0) -> IngestDelivery:
    delivery = await queue.take(consumer, timeout_s=timeout_s)
    assert delivery is not None
    return delivery


async def test_a_job_goes_to_one_worker_and_is_forgotten_at_its_end(backend: Backend) -> None:
    bus = backend.bus()
    queue, reports = bus.ingests(PLACE), bus.ingest_reports
    first = await queue.publish(ingest())
    assert (first.state, first.files, first.collection) == (IngestState.QUEUED, 3, "work")
    assert await reports.report("acme", "j1") == first
    delivery = await taken(queue)
    assert delivery.job == ingest()
    assert delivery.attempts == 1
    assert await queue.take("b", timeout_s=0) is None
    refusal = Refusal(source="x", reason="DOCUMENT_INVALID", message="x is binary")
    report = replace(running(ingest(), files_done=2, refused=1), refusals=(refusal,))
    await queue.renew("a", delivery, report)
    assert await reports.report("acme", "j1") == report
    assert await queue.depth() == await queue.depth("acme") == 1
    done = replace(report, state=IngestState.DONE)
    await queue.finish("a", delivery, done)
    assert await reports.report("acme", "j1") == done
    assert await queue.depth() == 0
    assert await queue.take("b", timeout_s=0) is None


async def test_a_silent_workers_job_goes_to_another_and_the_first_is_fenced(
    backend: Backend,
) -> None:
    bus = backend.bus(job_idle_s=0.2)
    queue = bus.ingests(PLACE)
    await queue.publish(ingest())
    first = await taken(queue, "a")
    await queue.renew("a", first, running(ingest(), files_done=1))
    await backend.pass_time(0.25)
    second = await taken(queue, "b")
    assert second.attempts == 2
    await queue.renew("b", second, running(ingest(), files_done=2))
    for late in (queue.renew, queue.finish):
        with pytest.raises(Fenced):
            await late("a", first, running(ingest(), files_done=3))
    assert (await bus.ingest_reports.report("acme", "j1")).files_done == 2
    await queue.release("a", first)
    assert await queue.take("c", timeout_s=0) is None, "it is b's alone"
    await queue.finish("b", second, replace(running(ingest()), state=IngestState.DONE))
    with pytest.raises(Fenced):
        await queue.renew("a", first, running(ingest()))


async def test_a_heartbeat_keeps_a_job(backend: Backend) -> None:
    queue = backend.bus(job_idle_s=0.4).ingests(PLACE)
    await queue.publish(ingest())
    delivery = await taken(queue)
    for _ in range(3):
        await backend.pass_time(0.25)
        await queue.renew("a", delivery, running(ingest()))
        assert await queue.take("b", timeout_s=0) is None


async def test_a_released_job_is_taken_at_once_and_counts_no_attempt(backend: Backend) -> None:
    queue = backend.bus().ingests(PLACE)
    await queue.publish(ingest())
    await queue.release("a", await taken(queue))
    assert (await taken(queue, "b")).attempts == 1


async def test_a_job_that_nobody_finishes_is_given_up_and_its_report_says_so(
    backend: Backend,
) -> None:
    bus = backend.bus(job_idle_s=0.05, max_attempts=2)
    queue = bus.ingests(PLACE)
    await queue.publish(ingest())
    for _ in range(2):
        delivery = await taken(queue)
        await queue.renew("a", delivery, running(ingest(), files_done=1, added=7))
        await backend.pass_time(0.1)
    assert await queue.take("a", timeout_s=0) is None
    report = await bus.ingest_reports.report("acme", "j1")
    assert (report.state, report.added, report.collection) == (IngestState.FAILED, 7, "work")
    assert "2 workers took this job" in report.message
    assert await queue.depth() == 0
    assert await bus.jobs.dead_letters() == [], "those of requests are others"


async def test_places_do_not_meet_but_their_reports_do(backend: Backend) -> None:
    bus, other = backend.bus(), backend.bus()
    await bus.ingests("here").publish(ingest())
    assert await other.ingests("there").take("a", timeout_s=0) is None
    assert (await other.ingest_reports.report("acme", "j1")).state is IngestState.QUEUED
    assert (await taken(other.ingests("here"))).job.job_id == "j1"
    assert await bus.jobs.take("drafter", timeout_s=0) is None, "nor do requests"


async def test_a_tenant_sees_its_own_reports_youngest_first(backend: Backend) -> None:
    bus = backend.bus(ingest_reports=2)
    queue = bus.ingests(PLACE)
    for number in range(3):
        await queue.publish(ingest(f"j{number}", at=number + 1))
    await queue.publish(ingest("theirs", "other"))
    assert [one.job_id for one in await bus.ingest_reports.reports("acme")] == ["j2", "j1"]
    assert (await bus.ingest_reports.report("acme", "j0")).job_id == "j0"
    assert [one.job_id for one in await bus.ingest_reports.reports("other")] == ["theirs"]
    for tenant, job_id in (("acme", "theirs"), ("other", "j1"), ("acme", "never")):
        with pytest.raises(UnknownRequest) as refused:
            await bus.ingest_reports.report(tenant, job_id)
        assert refused.value.message.replace(job_id, "ID") == "there is no ingest 'ID'"


async def test_reports_expire(backend: Backend) -> None:
    bus = backend.bus(ingest_ttl_s=0.1)
    queue = bus.ingests(PLACE)
    await queue.publish(ingest())
    await queue.finish("a", await taken(queue), replace(running(ingest()), state=IngestState.DONE))
    await backend.pass_time(0.2)
    assert await bus.ingest_reports.reports("acme") == ()
    with pytest.raises(UnknownRequest):
        await bus.ingest_reports.report("acme", "j1")


async def test_queue_and_tenants_share_are_bounded(backend: Backend) -> None:
    queue = backend.bus(ingest_limit=3, tenant_ingest_limit=2).ingests(PLACE)
    await queue.publish(ingest("a1"))
    await queue.publish(ingest("a2"))
    with pytest.raises(QuotaExceeded) as full:
        await queue.publish(ingest("a3"))
    assert full.value.retry_after_s
    await queue.publish(ingest("b1", "b"))
    with pytest.raises(Overloaded):
        await queue.publish(ingest("c1", "c"))
    order = [(await taken(queue)).job.job_id for _ in range(3)]
    assert order == ["a1", "b1", "a2"], "tenants take turns"


async def test_a_waiting_worker_gets_a_job_that_comes(backend: Backend) -> None:
    queue = backend.bus(block_s=0.5).ingests(PLACE)
    waiting = asyncio.create_task(taken(queue, timeout_s=10))
    await asyncio.sleep(0.05)
    await queue.publish(ingest())
    assert (await asyncio.wait_for(waiting, 10)).job.job_id == "j1"


async def test_what_cannot_travel_is_refused(backend: Backend) -> None:
    queue = backend.bus().ingests(PLACE)
    for bad in (ingest(tenant="no/name"), replace(ingest(), files=-1), ingest("\ud800")):
        with pytest.raises(HolaError) as refused:
            await queue.publish(bad)
        assert refused.value.grpc_code == 3
    assert await queue.depth() == 0
