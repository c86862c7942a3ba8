from hola.v1 import common_pb2 as _common_pb2
from hola.v1 import plan_pb2 as _plan_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateJob(_message.Message):
    __slots__ = ("request_id", "model", "prompt", "prompt_token_ids", "sampling", "speculation", "accepted_unix_ns", "deadline_unix_ns", "tenant", "request_digest", "plan", "lookup_texts")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_TEXTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    prompt: str
    prompt_token_ids: _containers.RepeatedScalarFieldContainer[int]
    sampling: _common_pb2.SamplingParams
    speculation: _common_pb2.SpeculationParams
    accepted_unix_ns: int
    deadline_unix_ns: int
    tenant: str
    request_digest: str
    plan: _plan_pb2.Plan
    lookup_texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., prompt: _Optional[str] = ..., prompt_token_ids: _Optional[_Iterable[int]] = ..., sampling: _Optional[_Union[_common_pb2.SamplingParams, _Mapping]] = ..., speculation: _Optional[_Union[_common_pb2.SpeculationParams, _Mapping]] = ..., accepted_unix_ns: _Optional[int] = ..., deadline_unix_ns: _Optional[int] = ..., tenant: _Optional[str] = ..., request_digest: _Optional[str] = ..., plan: _Optional[_Union[_plan_pb2.Plan, _Mapping]] = ..., lookup_texts: _Optional[_Iterable[str]] = ...) -> None: ...

class DrafterServiceGenerateRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: GenerateJob
    def __init__(self, job: _Optional[_Union[GenerateJob, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("request_id", "model", "tiers", "fingerprint", "exactness", "prompt_tokens", "plan")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    EXACTNESS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    tiers: _containers.RepeatedScalarFieldContainer[str]
    fingerprint: str
    exactness: _common_pb2.Exactness
    prompt_tokens: int
    plan: _plan_pb2.Plan
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., tiers: _Optional[_Iterable[str]] = ..., fingerprint: _Optional[str] = ..., exactness: _Optional[_Union[_common_pb2.Exactness, str]] = ..., prompt_tokens: _Optional[int] = ..., plan: _Optional[_Union[_plan_pb2.Plan, _Mapping]] = ...) -> None: ...

class Tokens(_message.Message):
    __slots__ = ("position", "tokens")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    position: int
    tokens: _containers.RepeatedCompositeFieldContainer[_common_pb2.TokenEvent]
    def __init__(self, position: _Optional[int] = ..., tokens: _Optional[_Iterable[_Union[_common_pb2.TokenEvent, _Mapping]]] = ...) -> None: ...

class Correction(_message.Message):
    __slots__ = ("position", "fingerprint")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    position: int
    fingerprint: str
    def __init__(self, position: _Optional[int] = ..., fingerprint: _Optional[str] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("reason", "message", "grpc_code", "details")
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    GRPC_CODE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    grpc_code: int
    details: _containers.ScalarMap[str, str]
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., grpc_code: _Optional[int] = ..., details: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GenerateEvent(_message.Message):
    __slots__ = ("started", "tokens", "finished", "failed", "corrected")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CORRECTED_FIELD_NUMBER: _ClassVar[int]
    started: Started
    tokens: Tokens
    finished: _common_pb2.Summary
    failed: Failure
    corrected: Correction
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., tokens: _Optional[_Union[Tokens, _Mapping]] = ..., finished: _Optional[_Union[_common_pb2.Summary, _Mapping]] = ..., failed: _Optional[_Union[Failure, _Mapping]] = ..., corrected: _Optional[_Union[Correction, _Mapping]] = ...) -> None: ...

class DrafterServiceGenerateResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: GenerateEvent
    def __init__(self, event: _Optional[_Union[GenerateEvent, _Mapping]] = ...) -> None: ...

class DrafterServiceInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrafterServiceInfoResponse(_message.Message):
    __slots__ = ("version", "model", "tiers", "tokenizer_fingerprint", "verifier", "active_requests")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    version: str
    model: str
    tiers: _containers.RepeatedScalarFieldContainer[str]
    tokenizer_fingerprint: str
    verifier: str
    active_requests: int
    def __init__(self, version: _Optional[str] = ..., model: _Optional[str] = ..., tiers: _Optional[_Iterable[str]] = ..., tokenizer_fingerprint: _Optional[str] = ..., verifier: _Optional[str] = ..., active_requests: _Optional[int] = ...) -> None: ...
