"""A compression job as a client asks for it, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """See SubmitJobRequest in compressor.proto for ranges and for what unset means."""

    model: str
    job_id: str = ""
    tier: str = ""
    budget_bytes: int = 0
    plan_json: str = ""
    calibration: bytes = b""
    calibration_is_jsonl: bool = False
    name: str = ""
    publish_tier: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A queued job, and what it is predicted to need, bytes; 0 where nothing is known."""

    job_id: str
    memory_bytes: int = 0
    disk_bytes: int = 0
    smallest_bytes: int = 0
