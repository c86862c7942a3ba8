"""Large ingests as jobs: watched, re-attached to, taken up when a worker dies, given up in time."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from hola.bus.streams import Keys
from hola.errors import HolaError, QuotaExceeded, StoreUnavailable
from hola.retrieval.ingest_job import IngestReport, IngestState
from hola.rpc.retrieval_client import RetrievalClient
from hola_router import ingest_worker
from tests.support.bus import until
from tests.support.library import (
    COLLECTION,
    TENANT,
    Desk,
    everything,
    library_settings,
    parts,
    records,
    running_library,
)
from tests.support.process import running_service
from tests.support.verifier import eventually

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

IDLE_S = 0.8


@pytest.fixture
async def redis_of_its_own(redis_url: str) -> str:
    """An empty database."""
    url = redis_url.replace("/0", "/7")
    async with Redis.from_url(url) as database:
        await database.flushdb()
    return url


async def last(client: RetrievalClient, job_id: str) -> IngestReport:
    reports = [report async for report in client.watch(job_id)]
    return reports[-1]


@pytest.mark.parametrize("wiring", ["memory", "redis"])
async def test_a_large_ingest_becomes_a_job_that_two_may_watch(
    tmp_path: Path, redis_of_its_own: str, wiring: str
) -> None:
    bus = "memory:" if wiring == "memory" else redis_of_its_own
    async with running_library(tmp_path, bus, ingest_inline_mb=0) as desk:
        report = await desk.ingest({"facts.jsonl": records(300), "bad": b"\x00", "a": "tea"})
        assert (report.state, report.files, report.files_done) == (IngestState.QUEUED, 3, 0)
        first, second = await asyncio.gather(*(last(desk.client, report.job_id) for _ in range(2)))
        assert first == second
        assert (first.state, first.added, first.refused) == (IngestState.DONE, 301, 1)
        assert (first.refusals[0].source, first.attempts) == ("bad", 1)
        assert await last(desk.client, report.job_id) == first, "its report is kept"
        (listed,) = (await desk.client.stats()).jobs
        assert (listed.job_id, listed.state, listed.refusals) == (report.job_id, first.state, ())
        await eventually(lambda: not desk.spooled(), "no file is left over")
        assert await desk.found("tea") == ["a"]


async def test_background_may_be_asked_for_and_refused(tmp_path: Path) -> None:
    async with running_library(tmp_path, "memory:", ingest_inline_mb=0) as desk:
        with pytest.raises(HolaError) as large:
            await desk.ingest({"a": "tea"}, background=False)
        assert large.value.details["field"] == "background"
    async with running_library(tmp_path, "memory:") as desk:
        assert (await desk.ingest({"a": "tea"})).job_id == ""
        job = await desk.ingest({"a": "tea"}, background=True)
        assert (await last(desk.client, job.job_id)).unchanged == 1


async def test_too_many_jobs_of_a_tenant_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    async with running_library(tmp_path, "memory:", ingest_jobs=0) as desk:
        for _ in range(16):
            await desk.ingest({"a": "tea"}, background=True)
        with pytest.raises(QuotaExceeded):
            await desk.ingest({"a": "tea"}, background=True)
        await eventually(lambda: len(desk.spooled()) == 16, "the refused one's files are gone")


async def begun(desk: Desk) -> None:
    """Return when a worker, wherever it is, has written something."""

    async def written() -> bool:
        held = await desk.store.collections(TENANT)
        return any(one.documents for one in held)

    await until(written)


async def undisturbed(folder: Path, files: dict[str, bytes]) -> list[object]:
    """What the collection holds when nothing goes wrong."""
    async with running_library(folder, "memory:", ingest_inline_mb=1024) as desk:
        await desk.ingest(files)
        return await everything(desk.store)


async def test_a_killed_workers_job_is_taken_up_and_ends_the_same(
    tmp_path: Path, redis_of_its_own: str
) -> None:
    """A router process gets SIGKILL in mid-ingest; another router on its folder ends the job."""
    files = {f"part{n}.jsonl": records(1000, start=1000 * n) for n in range(3)}
    expected = await undisturbed(tmp_path / "reference", files)
    common: dict[str, Any] = {"job_idle_s": IDLE_S, "ingest_inline_mb": 0}
    at = library_settings(tmp_path, redis_of_its_own, **common)
    process = {
        f"HOLA_{name.upper()}": str(getattr(at, name))
        for name in ("bus", "model", "models_dir", "data_dir", "listen", "embedder", "job_idle_s")
    }
    door = running_library(tmp_path, redis_of_its_own, ingest_jobs=0, **common)
    async with door as desk, running_service("hola_router", **process) as victim:
        await victim.event("serving")
        job = await desk.ingest(files)
        await begun(desk)
        victim.signal(signal.SIGKILL)
        await victim.exit_code()
        partly = len(await everything(desk.store))
        assert 0 < partly < len(expected), "it died in the middle"
        async with running_library(tmp_path, redis_of_its_own, **common):
            report = await last(desk.client, job.job_id)
        assert (report.state, report.attempts) == (IngestState.DONE, 2)
        assert report.added + report.unchanged == len(expected)
        assert report.unchanged >= partly
        assert await everything(desk.store) == expected
        await eventually(lambda: not desk.spooled(), "no file is left over")


async def test_a_router_that_stops_gives_its_job_back_at_once(
    tmp_path: Path, redis_of_its_own: str
) -> None:
    files = {"facts.jsonl": records(2500)}
    common: dict[str, Any] = {"ingest_inline_mb": 0, "job_idle_s": 1000.0}
    async with running_library(tmp_path, redis_of_its_own, ingest_jobs=0, **common) as desk:
        async with running_library(tmp_path, redis_of_its_own, **common) as first:
            # Its heartbeats are seldom with so long a limit: what is on disk tells.
            job = await desk.ingest(files)
            await begun(first)
        async with running_library(tmp_path, redis_of_its_own, **common):
            report = await last(desk.client, job.job_id)
        assert (report.state, report.attempts) == (IngestState.DONE, 1)
        assert len(await everything(desk.store)) == 2500


def _damage(desk: Desk, what: str) -> None:
    (folder,) = (Path(desk.settings.data_dir) / ".spool" / name for name in desk.spooled())
    if what == "changed bytes":
        data = bytearray((folder / "data").read_bytes())
        data[-3] ^= 1
        (folder / "data").write_bytes(data)
    elif what == "cut bytes":
        os.truncate(folder / "data", 5)
    elif what == "changed list":
        (folder / "list.jsonl").write_text((folder / "list.jsonl").read_text().replace("a", "b"))
    else:
        (folder / what.removeprefix("no ")).unlink()


@pytest.mark.parametrize(
    "what", ["changed bytes", "cut bytes", "changed list", "no data", "no list.jsonl"]
)
async def test_files_that_are_not_what_was_sent_fail_the_job(
    tmp_path: Path, redis_of_its_own: str, what: str
) -> None:
    async with running_library(tmp_path, redis_of_its_own, ingest_jobs=0) as desk:
        job = await desk.ingest({"a.txt": b"green tea"}, background=True)
        _damage(desk, what)
        async with running_library(tmp_path, redis_of_its_own):
            report = await last(desk.client, job.job_id)
        assert (report.state, report.reason) == (IngestState.FAILED, "STORE_CORRUPT")
        assert (await desk.client.stats(COLLECTION)).collections[0].documents == 0
        await eventually(lambda: not desk.spooled(), "no file is left over")


async def test_a_collection_that_is_deleted_meanwhile_fails_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_library(tmp_path, "memory:") as desk:
        put = desk.store.put

        async def dropped(*given: Any, **named: Any) -> Any:
            await desk.client.delete(COLLECTION, None)
            return await put(*given, **named)

        monkeypatch.setattr(desk.store, "put", dropped)
        job = await desk.ingest({"a": "tea"}, background=True)
        report = await last(desk.client, job.job_id)
        assert (report.state, report.reason) == (IngestState.FAILED, "UNKNOWN_COLLECTION")


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError("oh"), ""), (StoreUnavailable("locked"), "; the last one: locked")],
)
async def test_a_job_that_kills_every_worker_is_given_up(
    tmp_path: Path,
    redis_of_its_own: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    said: str,
) -> None:
    limits: dict[str, Any] = {"job_idle_s": 0.2, "job_attempts": 2}
    async with running_library(tmp_path, redis_of_its_own, **limits) as desk:

        async def broken(*given: Any, **named: Any) -> Any:
            raise error

        monkeypatch.setattr(desk.store, "put", broken)
        monkeypatch.setattr(ingest_worker, "PAUSE_S", 0.05)
        job = await desk.ingest({"a": "tea"}, background=True)
        report = await last(desk.client, job.job_id)
        assert report.state is IngestState.FAILED
        assert report.message.startswith("given up: 2 workers took this job")
        assert report.message.endswith(said)


async def test_garbage_in_the_queue_is_put_aside(tmp_path: Path, redis_of_its_own: str) -> None:
    async with running_library(tmp_path, redis_of_its_own, job_idle_s=0.5) as desk:
        await desk.ingest({"a": "tea"})
        place = (Path(desk.settings.data_dir) / ".spool" / "place").read_text()
        keys = Keys().ingests(place)
        async with Redis.from_url(redis_of_its_own) as database:
            await database.xadd(keys.queue("default"), {"p": b"\xff\xff"})
            await database.xadd(keys.queue("default"), {"other": b"field"})
            await database.zadd(keys.tenants, {"default": 0})
            await database.rpush(keys.ready, "1", "1")  # type: ignore[misc]
            job = await desk.ingest({"b": "coffee"}, background=True)
            assert (await last(desk.client, job.job_id)).added == 1
            assert await database.xlen(keys.dead_letters) == 2


async def test_what_is_left_on_redis_expires(tmp_path: Path, redis_of_its_own: str) -> None:
    async with running_library(tmp_path, redis_of_its_own) as desk:
        job = await desk.ingest({"a": "tea"}, background=True)
        await last(desk.client, job.job_id)
        async with Redis.from_url(redis_of_its_own) as database:
            lasting = [key async for key in database.scan_iter() if await database.ttl(key) == -1]
        place = (Path(desk.settings.data_dir) / ".spool" / "place").read_text()
        assert lasting == [Keys().ingests(place).tenants.encode()]


async def test_the_spool_has_a_bound(tmp_path: Path) -> None:
    limits = {"ingest_jobs": 0, "ingest_spool_mb": 1}
    async with running_library(tmp_path, "memory:", **limits) as desk:
        await desk.ingest({"a": b"word " * 210_000}, piece=2**18, background=True)
        with pytest.raises(HolaError, match="1 MiB, the limit") as full:
            await desk.client.ingest(parts({"b": "tea"}))
        assert full.value.reason == "OVERLOADED"
