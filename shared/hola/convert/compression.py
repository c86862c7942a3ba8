"""Compression jobs, their status and artifacts as messages and as payloads of the bus."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

from google.protobuf.message import DecodeError

from hola.compression.job import (
    ArtifactInfo,
    CompressionJob,
    JobFailure,
    JobState,
    JobStatus,
    Release,
    plan_of_json,
    plan_to_json,
)
from hola.compression.request import JobRequest, Submitted
from hola.convert.fields import build, enum_from_pb
from hola.convert.payloads import FIRST_VERSION, parse_payload
from hola.errors import InvalidRequest, ProtocolViolation
from hola.v1 import compressor_pb2, events_pb2

_REQUEST_FIELDS = [item.name for item in fields(JobRequest)]


def job_request_to_pb(request: JobRequest) -> compressor_pb2.SubmitJobRequest:
    """Raises InvalidRequest when a value does not fit its wire type."""
    values = {name: getattr(request, name) for name in _REQUEST_FIELDS}
    return build(compressor_pb2.SubmitJobRequest, InvalidRequest, **values)


def job_request_from_pb(message: compressor_pb2.SubmitJobRequest) -> JobRequest:
    """Takes every message."""
    return JobRequest(**{name: getattr(message, name) for name in _REQUEST_FIELDS})


def submitted_to_pb(submitted: Submitted) -> compressor_pb2.SubmitJobResponse:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    return build(compressor_pb2.SubmitJobResponse, ProtocolViolation, **asdict(submitted))


def submitted_from_pb(message: compressor_pb2.SubmitJobResponse) -> Submitted:
    """Takes every message."""
    return Submitted(
        job_id=message.job_id,
        memory_bytes=message.memory_bytes,
        disk_bytes=message.disk_bytes,
        smallest_bytes=message.smallest_bytes,
    )


def artifact_to_pb(info: ArtifactInfo) -> compressor_pb2.ArtifactInfo:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    return build(
        compressor_pb2.ArtifactInfo,
        ProtocolViolation,
        model=info.model,
        tier=info.tier,
        digest=info.digest,
        size_bytes=info.size_bytes,
        quantization=info.quantization,
        source=info.source,
        source_sha256=info.source_sha256,
        license=info.license,
        has_report=info.has_report,
    )


def artifact_from_pb(message: compressor_pb2.ArtifactInfo) -> ArtifactInfo:
    """Takes every message."""
    return ArtifactInfo(
        model=message.model,
        tier=message.tier,
        digest=message.digest,
        size_bytes=message.size_bytes,
        quantization=message.quantization,
        source=message.source,
        source_sha256=message.source_sha256,
        license=message.license,
        has_report=message.has_report,
    )


def status_to_pb(status: JobStatus) -> compressor_pb2.WatchJobResponse:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    failure = status.failure and compressor_pb2.JobFailure(
        reason=status.failure.reason,
        message=status.failure.message,
        details=dict(status.failure.details),
    )
    return build(
        compressor_pb2.WatchJobResponse,
        ProtocolViolation,
        job_id=status.job_id,
        stage=status.stage,
        progress=status.progress,
        state=int(status.state),
        message=status.message,
        eta_s=status.eta_s,
        worker=status.worker,
        attempts=status.attempts,
        failure=failure,
        artifact=artifact_to_pb(status.artifact) if status.artifact else None,
        updated_unix_ms=status.updated_unix_ms,
    )


def status_from_pb(message: compressor_pb2.WatchJobResponse) -> JobStatus:
    """Raises ProtocolViolation on an unknown state."""
    failure = message.failure
    return JobStatus(
        job_id=message.job_id,
        state=enum_from_pb(JobState, message.state, "state", ProtocolViolation),
        stage=message.stage,
        progress=message.progress,
        message=message.message,
        eta_s=message.eta_s if message.HasField("eta_s") else None,
        worker=message.worker,
        attempts=message.attempts,
        failure=JobFailure(
            reason=failure.reason, message=failure.message, details=dict(failure.details)
        )
        if message.HasField("failure")
        else None,
        artifact=artifact_from_pb(message.artifact) if message.HasField("artifact") else None,
        updated_unix_ms=message.updated_unix_ms,
    )


def encode_compression(job: CompressionJob) -> bytes:
    """Raises InvalidRequest when a value does not fit its wire type."""
    message = build(
        events_pb2.CompressionEvent,
        InvalidRequest,
        version=FIRST_VERSION,
        job_id=job.job_id,
        tenant=job.tenant,
        model=job.model,
        tier=job.tier,
        plan_json=plan_to_json(job.plan),
        calibration=job.calibration,
        calibration_is_jsonl=job.calibration_is_jsonl,
        name=job.name,
        publish_tier=job.publish_tier,
    )
    return message.SerializeToString()


def decode_compression(payload: bytes) -> CompressionJob:
    """Raises ProtocolViolation on bytes that are no job, a later version, or a bad plan."""
    message = parse_payload(events_pb2.CompressionEvent, payload)
    try:
        plan = plan_of_json(message.plan_json)
    except InvalidRequest as wrong:
        raise ProtocolViolation(f"plan: {wrong.message}", **wrong.details) from wrong
    return CompressionJob(
        job_id=message.job_id,
        tenant=message.tenant,
        model=message.model,
        tier=message.tier,
        plan=plan,
        calibration=message.calibration,
        calibration_is_jsonl=message.calibration_is_jsonl,
        name=message.name,
        publish_tier=message.publish_tier,
    )


def encode_status(status: JobStatus) -> bytes:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    message = events_pb2.CompressionStatus(version=FIRST_VERSION, status=status_to_pb(status))
    return message.SerializeToString()


def decode_status(payload: bytes) -> JobStatus:
    """Raises ProtocolViolation on bytes that are no status, or a later version."""
    return status_from_pb(parse_payload(events_pb2.CompressionStatus, payload).status)


def encode_release(release: Release) -> bytes:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    message = build(
        events_pb2.RegistryEvent,
        ProtocolViolation,
        version=FIRST_VERSION,
        model=release.model,
        tier=release.tier,
        digest=release.digest,
    )
    return message.SerializeToString()


def decode_release(payload: bytes) -> Release:
    """Raises ProtocolViolation on bytes that are no event, or a later version."""
    message = parse_payload(events_pb2.RegistryEvent, payload)
    return Release(model=message.model, tier=message.tier, digest=message.digest)


def without_text(payload: bytes) -> bytes:
    """A payload as it may be kept: without calibration text, b"" where that may be anywhere."""
    try:
        job = decode_compression(payload)
    except ProtocolViolation:
        return b""
    return encode_compression(replace(job, calibration=b""))


def name_of(payload: bytes) -> str:
    """The job id in a payload that may be of no use otherwise; empty without one."""
    try:
        return events_pb2.CompressionEvent.FromString(payload).job_id
    except DecodeError:
        return ""
