"""The bus's payloads as bytes: versioned envelopes around a job, a journal entry, a record.

`version` is the oldest version of a reader that can make sense of the payload, not the writer's
own. A writer thus marks a payload with more than 1 only where a reader that does not know what is
new in it would go wrong; new fields that may be ignored leave it alone. A reader takes everything
up to READER_VERSION and skips fields it does not know, so old and new services mix in a rollout.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError

from hola.convert.events import event_from_pb, event_to_pb
from hola.convert.fields import build
from hola.convert.params import job_from_pb, job_to_pb
from hola.convert.retrieval import (
    ingest_job_from_pb,
    ingest_job_to_pb,
    ingest_report_from_pb,
    ingest_report_to_pb,
)
from hola.convert.services import verifier_info_from_pb, verifier_info_to_pb
from hola.errors import InvalidRequest, ProtocolViolation
from hola.retrieval.ingest_job import IngestJob, IngestReport
from hola.types import Correction, GenerateJob, JournalEntry, VerifierRecord
from hola.v1 import events_pb2

FIRST_VERSION = 1
CORRECTION_VERSION = 2  # a reader of version 1 would take void tokens for output
READER_VERSION = 2


class Versioned(Protocol):
    """A message with the oldest reader's version in it."""

    version: int

    def ParseFromString(self, serialized: bytes, /) -> int:
        """Read bytes. Raises DecodeError."""
        ...


M = TypeVar("M", bound=Versioned)


def encode_job(job: GenerateJob) -> bytes:
    """Raises InvalidRequest or InvalidSampling when a value does not fit its wire type."""
    message = events_pb2.JobEnvelope(
        version=FIRST_VERSION, job=job_to_pb(job), traceparent=job.traceparent
    )
    return message.SerializeToString()


def decode_job(payload: bytes) -> GenerateJob:
    """Raises ProtocolViolation on bytes that are no envelope, a later version, or a bad job."""
    envelope = parse_payload(events_pb2.JobEnvelope, payload)
    try:
        return replace(job_from_pb(envelope.job), traceparent=envelope.traceparent)
    except InvalidRequest as wrong:
        raise ProtocolViolation(f"job: {wrong.message}", **wrong.details) from wrong


def request_id_of(payload: bytes) -> str:
    """The request id in a job's payload that may be of no use otherwise; empty without one."""
    try:
        return events_pb2.JobEnvelope.FromString(payload).job.request_id
    except DecodeError:
        return ""


def encode_entry(entry: JournalEntry) -> bytes:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    is_correction = isinstance(entry.event, Correction)
    message = build(
        events_pb2.JournalEntry,
        ProtocolViolation,
        version=CORRECTION_VERSION if is_correction else FIRST_VERSION,
        event=event_to_pb(entry.event),
        writer=entry.writer,
    )
    return message.SerializeToString()


def decode_entry(payload: bytes) -> JournalEntry:
    """Raises ProtocolViolation on bytes that are no entry, a later version, or a bad event."""
    message = parse_payload(events_pb2.JournalEntry, payload)
    return JournalEntry(event=event_from_pb(message.event), writer=message.writer)


def encode_record(record: VerifierRecord) -> bytes:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    message = build(
        events_pb2.VerifierRecord,
        ProtocolViolation,
        version=FIRST_VERSION,
        address=record.address,
        info=verifier_info_to_pb(record.info),
    )
    return message.SerializeToString()


def decode_record(payload: bytes) -> VerifierRecord:
    """Raises ProtocolViolation on bytes that are no record, a later version, or a bad info."""
    message = parse_payload(events_pb2.VerifierRecord, payload)
    return VerifierRecord(address=message.address, info=verifier_info_from_pb(message.info))


def encode_ingest(job: IngestJob) -> bytes:
    """Raises InvalidRequest when a value does not fit its wire type."""
    message = events_pb2.IngestJobEnvelope(version=FIRST_VERSION, job=ingest_job_to_pb(job))
    return message.SerializeToString()


def decode_ingest(payload: bytes) -> IngestJob:
    """Raises ProtocolViolation on bytes that are no envelope, or of a later version."""
    return ingest_job_from_pb(parse_payload(events_pb2.IngestJobEnvelope, payload).job)


def ingest_id_of(payload: bytes) -> str:
    """The job id in an ingest's payload that may be of no use otherwise; empty without one."""
    try:
        return events_pb2.IngestJobEnvelope.FromString(payload).job.job_id
    except DecodeError:
        return ""


def encode_report(report: IngestReport) -> bytes:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    message = events_pb2.IngestRecord(version=FIRST_VERSION, report=ingest_report_to_pb(report))
    return message.SerializeToString()


def decode_report(payload: bytes) -> IngestReport:
    """Raises ProtocolViolation on bytes that are no record, a later version, or a bad state."""
    return ingest_report_from_pb(parse_payload(events_pb2.IngestRecord, payload).report)


def parse_payload(kind: type[M], payload: bytes) -> M:
    """The message in a payload. Raises ProtocolViolation on other bytes, or a later version."""
    message = kind()
    try:
        message.ParseFromString(payload)
    except DecodeError as wrong:
        text = f"payload: {len(payload)} bytes that are no {kind.__name__}: {wrong}"
        raise ProtocolViolation(text, field="payload") from None
    if message.version < FIRST_VERSION:
        raise ProtocolViolation("version: there is none", field="version")
    if message.version > READER_VERSION:
        text = f"version: {message.version} needs a newer reader than this one ({READER_VERSION})"
        raise ProtocolViolation(text, field="version", needs_reader=message.version)
    return message
