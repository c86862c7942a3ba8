"""The worker's own decisions, with passes that are played: what it checks, and when it lets go."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hola.bus.memory import MemoryBus
from hola.compression.job import CompressionDelivery, CompressionJob, JobState, JobStatus
from hola.compression.plan import Plan
from hola.errors import BusUnavailable, Fenced
from hola.models.family import TierSource, write_manifest
from hola.models.manifest import Tier
from hola.models.publish import Publication, publish
from hola.models.store import ModelStore
from hola.telemetry import Metrics
from hola_compressor.delivery import Workshop
from hola_compressor.passes import Estimate, Progress
from hola_compressor.process import PassProcess
from hola_compressor.sources import Sources
from hola_compressor.workdir import WorkDirs
from hola_compressor.worker import CompressionWorker
from tests.support import passes_child
from tests.support.compression import compression_job, queued, write_source_family
from tests.support.tiny_models import write_tokenizer

IDLE_S = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Played(PassProcess):
    """Passes without a process: they need `disk_bytes`, and make the stand-ins' artifact."""

    disk_bytes: int = 1000
    ran: asyncio.Event = field(default_factory=asyncio.Event)
    last_for_ever: bool = False

    async def estimate(self, plan: Plan, source: Path) -> Estimate:
        return Estimate(memory_bytes=1, disk_bytes=self.disk_bytes, smallest_bytes=1)

    async def run(
        self, plan: Plan, source: Path, work: Path, progress: Callable[[Progress], None]
    ) -> Path:
        self.ran.set()
        progress(Progress(stage="recover", done=0.5, message="step 3", eta_s=9))
        if self.last_for_ever:
            await asyncio.Event().wait()
        return passes_child.artifact(plan, work, b"w").artifact


@dataclass
class Site:
    """A bus, a store with the family `tiny`, and one worker."""

    folder: Path
    bus: MemoryBus
    passes: Played
    idle_s: float = IDLE_S

    @property
    def works(self) -> WorkDirs:
        return WorkDirs(self.folder / "work")

    @property
    def store(self) -> ModelStore:
        return ModelStore(self.folder / "models")

    async def submit(self, **changes: Any) -> CompressionJob:
        values = {"model": "tiny", "name": "tiny-lobi", "plan": Plan(target_bytes=5000), **changes}
        job = compression_job(**values)
        await self.bus.compression.submit(job, queued(job.job_id))
        return job

    async def taken(self) -> CompressionDelivery:
        """The next job, as the worker gets it."""
        delivery = await self.bus.compression.take("w", timeout_s=0)
        assert delivery is not None
        return delivery

    def worker(self, metrics: Metrics | None = None) -> CompressionWorker:
        shop = Workshop(sources=Sources(store=self.store), works=self.works, process=self.passes)
        return CompressionWorker(
            self.bus,
            shop,
            name="w",
            idle_s=self.idle_s,
            bus_patience_s=self.idle_s,
            metrics=metrics,
        )

    @asynccontextmanager
    async def working(self):
        task = asyncio.create_task(self.worker().run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def ended(self, job: CompressionJob) -> JobStatus:
        """The job's last status, once a worker has brought it there."""
        async with self.working():
            while True:
                status = await self.bus.compression.status(job.tenant, job.job_id)
                if status.state.ended:
                    return status
                await asyncio.sleep(0)


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    write_source_family(tmp_path / "models")
    return Site(tmp_path, MemoryBus(), Played(lease_s=IDLE_S))


@pytest.mark.parametrize(("kept", "state"), [(0, JobState.FAILED), (600, JobState.DONE)])
async def test_a_job_that_goes_on_needs_only_the_rest_of_its_disk(
    site: Site, monkeypatch: pytest.MonkeyPatch, kept: int, state: JobState
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    site.passes = Played(lease_s=IDLE_S, disk_bytes=1500)
    job = await site.submit()
    done = site.works.of(job) / "02-prune"
    done.mkdir()
    (done / "result.safetensors").write_bytes(bytes(kept))
    last = await site.ended(job)
    assert last.state is state, last.failure
    if last.failure is not None:
        assert (last.failure.reason, last.failure.details["needed_bytes"]) == (
            "NO_DISK_SPACE",
            "1500",
        )


async def test_another_tokenizer_ends_a_job_before_its_passes(site: Site) -> None:
    """Nobody could check it at submission: a hub id, or a family that came later."""
    job = await site.submit()
    other = write_source_family(site.folder / "models", job.name).path
    for tier in ("draft", "target"):
        write_tokenizer(other / tier, merges=3)
    ladder = [TierSource(name="draft", path="draft")]
    write_manifest(
        other, name=job.name, target=TierSource(name="target", path="target"), ladder=ladder
    )
    last = await site.ended(job)
    assert last.failure is not None
    assert last.failure.reason == "TOKENIZER_MISMATCH"
    assert not site.passes.ran.is_set()


async def test_a_worker_that_stops_leaves_the_job_waiting(site: Site) -> None:
    site.passes = Played(lease_s=IDLE_S, last_for_ever=True)
    job = await site.submit()
    async with site.working():
        await site.passes.ran.wait()
    status = await site.bus.compression.status(job.tenant, job.job_id)
    assert (status.state, status.worker, status.eta_s) == (JobState.QUEUED, "", None)
    assert (status.stage, status.progress) == ("recover", 0.5)


async def test_a_job_that_was_given_back_and_cancelled_leaves_nothing(site: Site) -> None:
    site.passes = Played(lease_s=IDLE_S, last_for_ever=True)
    job = await site.submit(calibration=b"a secret text")
    async with site.working():
        await site.passes.ran.wait()
    assert list(site.works.root.iterdir()), "the next worker goes on from here"
    await site.bus.compression.cancel(job.tenant, job.job_id)
    site.passes = Played(lease_s=IDLE_S)
    await site.ended(await site.submit(job_id="j2"))
    assert not (site.works.root / "default~j1").exists()


@dataclass
class Publishing:
    """A publication that stands still in its thread until `go` is set."""

    go: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    had_input: bool = False

    def __call__(
        self, store: ModelStore, built: Path, to: Publication, last_look: Callable[[], None]
    ) -> Tier:
        self.begun.set()
        self.go.wait()
        self.had_input = built.is_dir()
        return publish(store, built, to, last_look)


@pytest.fixture
def publishing(monkeypatch: pytest.MonkeyPatch) -> Publishing:
    made = Publishing()
    monkeypatch.setattr("hola_compressor.delivery.publish", made)
    return made


def left_in_store(site: Site) -> list[str]:
    """Everything in the store that is no family and no lock."""
    names = {each.name for each in (site.folder / "models").iterdir()}
    return sorted(names - {"tiny", ".publish.lock"})


async def test_a_job_cancelled_while_it_is_published_does_not_get_in(
    site: Site, publishing: Publishing
) -> None:
    job = await site.submit()
    serving = asyncio.create_task(site.worker()._serve(await site.taken()))
    await asyncio.to_thread(publishing.begun.wait)
    assert await site.bus.compression.cancel(job.tenant, job.job_id)
    publishing.go.set()
    await serving
    assert (await site.bus.compression.status(job.tenant, job.job_id)).state is JobState.CANCELLED
    assert not left_in_store(site)
    assert not list(site.works.root.iterdir())


@pytest.mark.parametrize("how", ["fenced", "stopped"])
async def test_a_publication_is_waited_for_before_its_job_is_let_go(
    site: Site, publishing: Publishing, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It reads the job's directory, which is removed or goes to another worker then."""
    told = asyncio.Event()
    report = site.bus.compression.report

    async def heard(*said: Any) -> None:
        try:
            await report(*said)
        except Fenced:
            told.set()
            raise

    monkeypatch.setattr(site.bus.compression, "report", heard)
    site.idle_s = 0.2  # the heart beats 20 times a second
    job = await site.submit()
    serving = asyncio.create_task(site.worker()._serve(await site.taken()))
    await asyncio.to_thread(publishing.begun.wait)
    if how == "stopped":
        serving.cancel()
    else:
        assert await site.bus.compression.cancel(job.tenant, job.job_id)
        await told.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    assert not serving.done()
    serving.cancel()  # impatience changes nothing
    publishing.go.set()
    await asyncio.wait({serving})
    assert publishing.had_input
    assert not left_in_store(site)


async def refuse(*_: Any) -> None:
    """What a bus that went away says."""
    raise BusUnavailable("away")


async def test_an_end_that_could_not_be_announced_is_an_end(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.bus.releases, "announce", refuse)
    metrics = Metrics()
    job = await site.submit()
    await site.worker(metrics)._serve(await site.taken())
    assert (await site.bus.compression.status(job.tenant, job.job_id)).state is JobState.DONE
    assert not list(site.works.root.iterdir())
    counted = metrics.registry.get_sample_value("hola_compressions_total", {"outcome": "done"})
    assert counted == 1


async def test_a_worker_that_is_cut_off_from_the_bus_stops_its_passes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell it that another worker has the job by now."""
    site.passes, site.idle_s = Played(lease_s=IDLE_S, last_for_ever=True), 0.05
    report = site.bus.compression.report

    async def refuse_later(*told: Any) -> None:
        await (refuse() if site.passes.ran.is_set() else report(*told))

    monkeypatch.setattr(site.bus.compression, "report", refuse_later)
    job = await site.submit()
    await site.worker()._serve(await site.taken())
    assert not (await site.bus.compression.status(job.tenant, job.job_id)).state.ended
    assert list(site.works.root.iterdir()), "another worker goes on from here"


async def test_a_report_that_never_returns_is_a_heartbeat_that_is_missed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(site.bus.compression, "report", hang)
    site.passes, site.idle_s = Played(lease_s=IDLE_S, last_for_ever=True), 0.05
    await site.submit()
    await site.worker()._serve(await site.taken())
