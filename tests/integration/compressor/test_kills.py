"""Workers are killed at seeded random moments: another goes on, and the artifact is the same."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from hola.bus.from_settings import bus_from
from hola.bus.ports import Bus
from hola.compression.job import CompressionJob, JobState, JobStatus, plan_of_json
from hola.compression.plan import Plan
from hola.config import Settings
from hola.models.family import TierSource, verify_digests, write_manifest
from hola.models.publish import digest_of_files
from hola.models.store import ModelStore
from hola_compressor import passes
from tests.support import passes_child
from tests.support.compression import compression_job, plan_json, queued, write_source_family
from tests.support.process import ServiceProcess, running_service
from tests.support.tiny_models import export, write_checkpoint

pytestmark = pytest.mark.redis

PATIENCE_S = 120
LONGEST_LIFE_S = 0.8
STAND_INS, REAL = "tests.support.compressor_main", "hola_compressor"


@dataclass
class Site:
    """One machine's folders, one queue, and workers that come and go."""

    folder: Path
    redis_url: str
    module: str
    dice: random.Random
    workers: int = 0

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def settings(self) -> dict[str, str]:
        self.workers += 1
        return {
            "HOLA_NAME": f"worker-{self.workers}",
            "HOLA_LISTEN": f"unix://{self.folder}/{self.workers}.sock",
            "HOLA_BUS": self.redis_url,
            "HOLA_MODELS_DIR": str(self.models),
            "HOLA_DATA_DIR": str(self.folder / "data"),
            "HOLA_JOB_IDLE_S": "1",
            "HOLA_JOB_ATTEMPTS": "100",
        }

    async def life(self, bus: Bus, job: CompressionJob, longest_s: float) -> bool:
        """A worker takes the job and is killed in the midst of it; False when it had ended."""
        async with running_service(self.module, **self.settings()) as worker:
            if (await self.owned(bus, job, f"worker-{self.workers}", worker)).state.ended:
                return False
            await asyncio.sleep(self.dice.uniform(0, longest_s))
            worker.signal(signal.SIGKILL)
            with suppress(TimeoutError):
                await worker.exit_code()
        return True

    async def owned(
        self, bus: Bus, job: CompressionJob, name: str, worker: ServiceProcess
    ) -> JobStatus:
        """The job's status once this worker has it, or it has ended."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                status = await bus.compression.status(job.tenant, job.job_id)
                if status.worker == name or status.state.ended:
                    return status
                await asyncio.sleep(0.02)

    async def ended(self, bus: Bus, job: CompressionJob) -> JobStatus:
        """The job's last status."""
        while True:
            status = await bus.compression.status(job.tenant, job.job_id)
            if status.state.ended:
                return status
            await asyncio.sleep(0.05)


async def outlive(
    site: Site, job: CompressionJob, kills: int, longest_s: float, patience_s: float = PATIENCE_S
) -> JobStatus:
    """Submit a job, kill its workers, let the last one finish it."""
    bus = await bus_from(Settings(bus=site.redis_url, job_idle_s=1.0, job_attempts=100))
    try:
        await bus.compression.submit(job, queued(job.job_id))
        killed = 0
        for _ in range(kills):
            killed += await site.life(bus, job, longest_s)
        async with running_service(site.module, **site.settings()), asyncio.timeout(patience_s):
            status = await site.ended(bus, job)
    finally:
        await bus.close()
    assert killed == kills, f"the job was done after {killed} kills: give it more to do"
    return status


def expected_digest(folder: Path, plan: Plan) -> str:
    """What a run that nobody disturbs makes."""
    work = folder / "undisturbed"
    work.mkdir()
    built = passes_child.run(plan, folder, work, progress=lambda _: None, cancelled=lambda: False)
    return digest_of_files(built.artifact)[0]


@pytest.mark.parametrize(
    "kills", [2, pytest.param(10, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
async def test_killed_workers_leave_the_same_artifact(
    kills: int, tmp_path: Path, redis_url: str
) -> None:
    seed = 20261128 + kills
    site = Site(tmp_path, redis_url.removesuffix("/0") + "/8", STAND_INS, random.Random(seed))
    write_source_family(site.models)
    text = plan_json(seed=kills, recover={"steps": 40 + 40 * kills})
    job = compression_job(
        f"killed-{kills}", model="tiny", plan=plan_of_json(text), name="tiny-lobi"
    )
    status = await outlive(site, job, kills, LONGEST_LIFE_S)
    assert status.state is JobState.DONE, f"seed {seed}: {status}"
    assert status.attempts == kills + 1
    family = ModelStore(site.models).get("tiny-lobi")
    verify_digests(family)
    assert family.target.digest == expected_digest(tmp_path, job.plan), f"seed {seed}"
    assert status.artifact is not None
    assert status.artifact.digest == family.target.digest


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.timeout(1800)
async def test_killed_workers_of_the_real_passes_leave_the_same_artifact(
    tmp_path: Path, redis_url: str
) -> None:
    kills, seed = 10, 7
    site = Site(tmp_path, redis_url.removesuffix("/0") + "/8", REAL, random.Random(seed))
    target = site.models / "tiny" / "target"
    target.mkdir(parents=True)
    write_checkpoint(target)
    export(target, target, "fp32")
    write_manifest(
        site.models / "tiny", name="tiny", target=TierSource(name="target", path="target")
    )
    document = {
        "bits_per_weight": 8,
        "calibration": {"tokens": 1024, "train_tokens": 2048, "window": 64},
        "prune": {"ffn": 0.25},
        "recover": {"steps": 8},
        "repair": {"steps": 8},
    }
    plan = plan_of_json(json.dumps(document))
    work = tmp_path / "undisturbed"
    work.mkdir()
    began = asyncio.get_running_loop().time()
    built = await asyncio.to_thread(
        passes.run, plan, target, work, progress=lambda _: None, cancelled=lambda: False
    )
    whole_s = asyncio.get_running_loop().time() - began
    job = compression_job("real", model="tiny", plan=plan, name="tiny-lobi")
    patience_s = PATIENCE_S + 5 * whole_s  # the machine may be slower by then
    status = await outlive(site, job, kills, whole_s / 4, patience_s)
    assert status.state is JobState.DONE, f"seed {seed}: {status}"
    family = ModelStore(site.models).get("tiny-lobi")
    assert family.target.digest == digest_of_files(built.artifact)[0], f"seed {seed}"
