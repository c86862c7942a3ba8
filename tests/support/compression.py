"""Compression jobs for tests of the bus and of the compressor."""

from __future__ import annotations

from typing import Any

from hola.compression.job import ArtifactInfo, CompressionJob, JobState, JobStatus
from hola.compression.plan import Plan


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
