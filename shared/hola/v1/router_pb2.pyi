from hola.v1 import common_pb2 as _common_pb2
from hola.v1 import drafter_pb2 as _drafter_pb2
from hola.v1 import plan_pb2 as _plan_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChatMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class RouterServiceGenerateRequest(_message.Message):
    __slots__ = ("request_id", "model", "prompt", "messages", "sampling", "speculation", "idempotency_key", "retrieval")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    RETRIEVAL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    prompt: str
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    sampling: _common_pb2.SamplingParams
    speculation: _common_pb2.SpeculationParams
    idempotency_key: str
    retrieval: _plan_pb2.RetrievalParams
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., prompt: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ..., sampling: _Optional[_Union[_common_pb2.SamplingParams, _Mapping]] = ..., speculation: _Optional[_Union[_common_pb2.SpeculationParams, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., retrieval: _Optional[_Union[_plan_pb2.RetrievalParams, _Mapping]] = ...) -> None: ...

class RouterServiceGenerateResponse(_message.Message):
    __slots__ = ("event", "retrieval_plan")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    RETRIEVAL_PLAN_FIELD_NUMBER: _ClassVar[int]
    event: _drafter_pb2.GenerateEvent
    retrieval_plan: _plan_pb2.RetrievalPlan
    def __init__(self, event: _Optional[_Union[_drafter_pb2.GenerateEvent, _Mapping]] = ..., retrieval_plan: _Optional[_Union[_plan_pb2.RetrievalPlan, str]] = ...) -> None: ...

class RouterServiceResumeRequest(_message.Message):
    __slots__ = ("request_id", "position")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    position: int
    def __init__(self, request_id: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class RouterServiceResumeResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _drafter_pb2.GenerateEvent
    def __init__(self, event: _Optional[_Union[_drafter_pb2.GenerateEvent, _Mapping]] = ...) -> None: ...

class RouterServiceCancelRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class RouterServiceCancelResponse(_message.Message):
    __slots__ = ("cancelled",)
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    cancelled: bool
    def __init__(self, cancelled: bool = ...) -> None: ...

class RouterServiceInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "tiers", "context_length")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    name: str
    tiers: _containers.RepeatedScalarFieldContainer[str]
    context_length: int
    def __init__(self, name: _Optional[str] = ..., tiers: _Optional[_Iterable[str]] = ..., context_length: _Optional[int] = ...) -> None: ...

class RouterServiceInfoResponse(_message.Message):
    __slots__ = ("version", "models", "default_model", "active_requests", "queue_depth", "queue_limit", "tenant_requests", "tenant_limit", "tenant_rate_per_s", "tenant_burst")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    TENANT_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    TENANT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    TENANT_RATE_PER_S_FIELD_NUMBER: _ClassVar[int]
    TENANT_BURST_FIELD_NUMBER: _ClassVar[int]
    version: str
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    default_model: str
    active_requests: int
    queue_depth: int
    queue_limit: int
    tenant_requests: int
    tenant_limit: int
    tenant_rate_per_s: float
    tenant_burst: int
    def __init__(self, version: _Optional[str] = ..., models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ..., default_model: _Optional[str] = ..., active_requests: _Optional[int] = ..., queue_depth: _Optional[int] = ..., queue_limit: _Optional[int] = ..., tenant_requests: _Optional[int] = ..., tenant_limit: _Optional[int] = ..., tenant_rate_per_s: _Optional[float] = ..., tenant_burst: _Optional[int] = ...) -> None: ...
