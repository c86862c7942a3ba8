"""A compression job, how far it is, and the artifact it ends in."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hola.compression.plan import SELF_WRITTEN, Plan, parse_plan
from hola.errors import HolaError, InvalidRequest
from hola.types import DEFAULT_TENANT
from hola.validate import check_request_id, check_tenant

MAX_PLAN_BYTES = 2**20
MAX_CALIBRATION_BYTES = 3 * 2**20
PUBLISHING = "publish"


class JobState(enum.IntEnum):
    """Where a job is in its life (values as in compressor.proto)."""

    QUEUED = 1
    RUNNING = 2
    DONE = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def ended(self) -> bool:
        """Whether nothing follows any more."""
        return self >= JobState.DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionJob:
    """What a worker gets: everything but the source's files.

    `model` and `tier` name the source (a family of the store; a hub id, or where the job never left
    this process a directory, has no tier). The artifact becomes `publish_tier` of the family
    `name`. `calibration` is text that came with the job, b"" where the plan says what to use.
    """

    job_id: str
    model: str
    plan: Plan
    name: str
    publish_tier: str
    tier: str = ""
    tenant: str = DEFAULT_TENANT
    calibration: bytes = b""
    calibration_is_jsonl: bool = False

    @property
    def key(self) -> str:
        """Names it among all tenants' jobs; a tenant's name has no slash."""
        return job_key(self.tenant, self.job_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactInfo:
    """One tier of a family in the store; `source` is empty unless a job made it."""

    model: str
    tier: str
    digest: str
    size_bytes: int
    quantization: str = ""
    source: str = ""
    source_sha256: str = ""
    license: str = ""
    has_report: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """Why a job failed: an error as data."""

    reason: str
    message: str
    details: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: HolaError) -> JobFailure:
        """An error as data; `errors.from_reason` rebuilds it."""
        return cls(reason=error.reason, message=error.message, details=dict(error.details))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """How far a job is. `progress` is 0 to 1, `eta_s` seconds to its end or None."""

    job_id: str
    state: JobState
    stage: str = ""
    progress: float = 0.0
    message: str = ""
    eta_s: float | None = None
    worker: str = ""
    attempts: int = 0
    failure: JobFailure | None = None
    artifact: ArtifactInfo | None = None
    updated_unix_ms: int = 0

    def waiting(self) -> JobStatus:
        """A job that its worker gave back: as far as it was, and nobody's."""
        return replace(
            self,
            state=JobState.QUEUED,
            message="",
            eta_s=None,
            worker="",
            attempts=max(self.attempts - 1, 0),
        )

    def failed(self, error: HolaError) -> JobStatus:
        """The end of a job that could not be done."""
        return replace(self, state=JobState.FAILED, failure=JobFailure.of(error), eta_s=None)

    def cancelled(self) -> JobStatus:
        """The end of a job that nobody wants any more."""
        return replace(self, state=JobState.CANCELLED, message="cancelled", eta_s=None)

    def done(self, artifact: ArtifactInfo) -> JobStatus:
        """The end of a job whose artifact is published."""
        return replace(
            self,
            state=JobState.DONE,
            stage="done",
            progress=1.0,
            message="",
            eta_s=None,
            artifact=artifact,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionDelivery:
    """A job as a worker got it: `attempts` counts this delivery too, `status` is the last known."""

    job: CompressionJob
    token: str
    attempts: int
    status: JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Word that a tier of a family has another artifact now."""

    model: str
    tier: str
    digest: str


def job_key(tenant: str, job_id: str) -> str:
    """One name per tenant and id."""
    return f"{tenant}/{job_id}"


def check_job(job: CompressionJob) -> CompressionJob:
    """The job itself. Raises InvalidRequest for what cannot travel or run anywhere."""
    check_tenant(job.tenant)
    check_request_id(job.job_id)
    if len(job.calibration) > MAX_CALIBRATION_BYTES:
        raise InvalidRequest(
            f"calibration: {len(job.calibration)} bytes, at most {MAX_CALIBRATION_BYTES}",
            field="calibration",
        )
    try:
        job.calibration.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"calibration is not UTF-8: {error}", field="calibration") from None
    return job


def plan_of_json(text: str) -> Plan:
    """The plan in a request. Raises InvalidRequest naming the key."""
    if len(text) > MAX_PLAN_BYTES:
        raise InvalidRequest(f"plan_json is longer than {MAX_PLAN_BYTES}", field="plan_json")
    try:
        document = json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"plan_json is not JSON: {error}", field="plan_json") from None
    return parse_plan(document)


def plan_to_json(plan: Plan) -> str:
    """What `plan_of_json` reads back."""
    return json.dumps(plan.document(), sort_keys=True)


def refuse_paths(plan: Plan) -> Plan:
    """The plan itself. Raises InvalidRequest where it names a file, which no client may."""
    if plan.calibration.source != SELF_WRITTEN:
        raise InvalidRequest(
            "calibration.source names a file: send the text as `calibration`",
            field="calibration.source",
        )
    if plan.draft_for is not None and ("/" in plan.draft_for or "\\" in plan.draft_for):
        raise InvalidRequest(
            f"draft_for names a family of the store, not {plan.draft_for!r}", field="draft_for"
        )
    return plan
