from hola.v1 import compressor_pb2 as _compressor_pb2
from hola.v1 import drafter_pb2 as _drafter_pb2
from hola.v1 import retrieval_pb2 as _retrieval_pb2
from hola.v1 import verifier_pb2 as _verifier_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobEnvelope(_message.Message):
    __slots__ = ("version", "job", "traceparent")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    version: int
    job: _drafter_pb2.GenerateJob
    traceparent: str
    def __init__(self, version: _Optional[int] = ..., job: _Optional[_Union[_drafter_pb2.GenerateJob, _Mapping]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class JournalEntry(_message.Message):
    __slots__ = ("version", "event", "writer")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    WRITER_FIELD_NUMBER: _ClassVar[int]
    version: int
    event: _drafter_pb2.GenerateEvent
    writer: str
    def __init__(self, version: _Optional[int] = ..., event: _Optional[_Union[_drafter_pb2.GenerateEvent, _Mapping]] = ..., writer: _Optional[str] = ...) -> None: ...

class VerifierRecord(_message.Message):
    __slots__ = ("version", "address", "info")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    version: int
    address: str
    info: _verifier_pb2.VerifierServiceInfoResponse
    def __init__(self, version: _Optional[int] = ..., address: _Optional[str] = ..., info: _Optional[_Union[_verifier_pb2.VerifierServiceInfoResponse, _Mapping]] = ...) -> None: ...

class IngestJob(_message.Message):
    __slots__ = ("job_id", "tenant", "options", "files", "bytes", "digest", "submitted_unix_ms")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant: str
    options: _retrieval_pb2.IngestOptions
    files: int
    bytes: int
    digest: str
    submitted_unix_ms: int
    def __init__(self, job_id: _Optional[str] = ..., tenant: _Optional[str] = ..., options: _Optional[_Union[_retrieval_pb2.IngestOptions, _Mapping]] = ..., files: _Optional[int] = ..., bytes: _Optional[int] = ..., digest: _Optional[str] = ..., submitted_unix_ms: _Optional[int] = ...) -> None: ...

class IngestJobEnvelope(_message.Message):
    __slots__ = ("version", "job")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    version: int
    job: IngestJob
    def __init__(self, version: _Optional[int] = ..., job: _Optional[_Union[IngestJob, _Mapping]] = ...) -> None: ...

class IngestRecord(_message.Message):
    __slots__ = ("version", "report")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    version: int
    report: _retrieval_pb2.IngestReport
    def __init__(self, version: _Optional[int] = ..., report: _Optional[_Union[_retrieval_pb2.IngestReport, _Mapping]] = ...) -> None: ...

class RegistryEvent(_message.Message):
    __slots__ = ("version", "model", "tier", "digest")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    version: int
    model: str
    tier: str
    digest: str
    def __init__(self, version: _Optional[int] = ..., model: _Optional[str] = ..., tier: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class CompressionEvent(_message.Message):
    __slots__ = ("version", "job_id", "tenant", "model", "tier", "plan_json", "calibration", "calibration_is_jsonl", "name", "publish_tier")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    PLAN_JSON_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_IS_JSONL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_TIER_FIELD_NUMBER: _ClassVar[int]
    version: int
    job_id: str
    tenant: str
    model: str
    tier: str
    plan_json: str
    calibration: bytes
    calibration_is_jsonl: bool
    name: str
    publish_tier: str
    def __init__(self, version: _Optional[int] = ..., job_id: _Optional[str] = ..., tenant: _Optional[str] = ..., model: _Optional[str] = ..., tier: _Optional[str] = ..., plan_json: _Optional[str] = ..., calibration: _Optional[bytes] = ..., calibration_is_jsonl: bool = ..., name: _Optional[str] = ..., publish_tier: _Optional[str] = ...) -> None: ...

class CompressionStatus(_message.Message):
    __slots__ = ("version", "status")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    version: int
    status: _compressor_pb2.WatchJobResponse
    def __init__(self, version: _Optional[int] = ..., status: _Optional[_Union[_compressor_pb2.WatchJobResponse, _Mapping]] = ...) -> None: ...
