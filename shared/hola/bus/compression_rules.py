"""What both backends of compression jobs say: errors, and what a delivery becomes."""

from __future__ import annotations

from dataclasses import replace

from hola.bus.rules import RawJob
from hola.compression.job import CompressionDelivery, CompressionJob, JobState, JobStatus
from hola.convert.compression import decode_compression
from hola.errors import DuplicateRequest, HolaError, ProtocolViolation, UnknownRequest
from hola.telemetry import get_logger

log = get_logger(__name__)


def open_compression(raw: RawJob, max_attempts: int) -> CompressionJob | HolaError | None:
    """The job; why it is to be given up; or None to leave it to a newer worker."""
    try:
        job = decode_compression(raw.payload)
    except ProtocolViolation as error:
        if "needs_reader" in error.details and raw.attempts <= max_attempts:
            log.warning("job_left_to_newer_worker", message=error.message, attempts=raw.attempts)
            return None
        return error
    if raw.attempts > max_attempts:
        return HolaError(
            f"given up: {max_attempts} workers took this job and none of them finished it",
            deliveries=max_attempts,
        )
    return job


def delivered(
    job: CompressionJob, raw: RawJob, status: JobStatus, consumer: str
) -> CompressionDelivery:
    """What a worker gets, with the status as it is from now on."""
    running = replace(status, state=JobState.RUNNING, worker=consumer, attempts=raw.attempts)
    return CompressionDelivery(job=job, token=raw.token, attempts=raw.attempts, status=running)


def job_taken(job_id: str) -> DuplicateRequest:
    """The error of who submits under an id that is taken."""
    return DuplicateRequest(f"compression job {job_id!r} exists already", job_id=job_id)


def no_job(job_id: str) -> UnknownRequest:
    """The error of whoever asks for a job that never was, has expired, or is another's."""
    return UnknownRequest(f"there is no compression job {job_id[:128]!r}", job_id=job_id[:128])
