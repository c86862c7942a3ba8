"""Compression jobs for tests of the bus and of the compressor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hola.bus.memory import MemoryBus
from hola.bus.ports import Bus
from hola.compression.job import ArtifactInfo, CompressionJob, JobState, JobStatus
from hola.compression.plan import Plan
from hola.compression.request import JobRequest
from hola.config import Settings
from hola.models.family import Family
from hola.rpc.compressor_client import CompressorClient
from hola_compressor.app import build
from tests.support.compressor_main import CHILD
from tests.support.family_files import write_family

PATIENCE_S = 60
# A plan that the passes of a tiny checkpoint are tried with.
BASE: dict[str, Any] = {
    "bits": 12.0,
    "calibration": {"tokens": 1024, "train_tokens": 1024, "window": 48},
    "quantize": {"blocks": [32], "refine": 0, "symmetric": False},
    "repair": {"steps": 2, "rows": 4},
    "recover": {"steps": 2, "rows": 4, "rank": 4},
}


def compression_job(job_id: str = "j1", **changes: Any) -> CompressionJob:
    """A job that the bus only carries."""
    values: dict[str, Any] = {
        "job_id": job_id,
        "model": "demo",
        "tier": "target",
        "plan": Plan(target_bytes=10_000_000),
        "name": "demo-lobi",
        "publish_tier": "target",
        **changes,
    }
    return CompressionJob(**values)


def queued(job_id: str = "j1") -> JobStatus:
    """The first status of a job."""
    return JobStatus(job_id=job_id, state=JobState.QUEUED, updated_unix_ms=1)


ARTIFACT = ArtifactInfo(
    model="demo-lobi",
    tier="target",
    digest="ab" * 32,
    size_bytes=9_000_000,
    quantization="lobi 4.00 bits",
    source="demo/target",
    source_sha256="cd" * 32,
    license="Apache-2.0",
    has_report=True,
)


def write_source_family(root: Path, name: str = "tiny") -> Family:
    """A family whose target has a checkpoint: a config and one whole safetensors file."""
    family = write_family(root, name)
    target = family.target.path
    (target / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": [4, 25], "data_offsets": [0, 400]}}
    ).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(400)
    (target / "model.safetensors").write_bytes(weights)
    return family


def plan_json(**changes: Any) -> str:
    """A plan of a few stand-in steps (tests.support.passes_child)."""
    values: dict[str, Any] = {"target_bytes": 5000, "recover": {"steps": 3}, **changes}
    return json.dumps(values)


@asynccontextmanager
async def running_compressor(
    folder: Path, bus: Bus | None = None, **settings: Any
) -> AsyncIterator[CompressorClient]:
    """A served compressor with stand-in passes and the family `tiny`, and a client of it."""
    if not (folder / "models").is_dir():
        write_source_family(folder / "models")
    chosen = Settings(
        **{
            "listen": f"unix://{folder}/c.sock",
            "models_dir": str(folder / "models"),
            "data_dir": str(folder / "data"),
            "drain_s": 0.0,
            **settings,
        }
    )
    app = build(chosen, bus=bus or MemoryBus(), child=CHILD)
    await app.start()
    client = CompressorClient(app.address, chosen)
    try:
        yield client
    finally:
        await client.close()
        await app.stop()


async def ended(client: CompressorClient, job_id: str) -> list[JobStatus]:
    """Every status of a job until its end."""
    async with asyncio.timeout(PATIENCE_S):
        return [status async for status in client.watch(job_id)]


async def done(client: CompressorClient, **changes: Any) -> JobStatus:
    """Submit a job of the family `tiny` and wait for its end."""
    values: dict[str, Any] = {"model": "tiny", "plan_json": plan_json(), **changes}
    submitted = await client.submit(JobRequest(**values))
    return (await ended(client, submitted.job_id))[-1]
