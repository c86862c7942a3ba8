from hola.v1 import common_pb2 as _common_pb2
from hola.v1 import drafter_pb2 as _drafter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VerifyRequest(_message.Message):
    __slots__ = ("open", "block", "cancel")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    open: Open
    block: DraftBlock
    cancel: CancelSession
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., block: _Optional[_Union[DraftBlock, _Mapping]] = ..., cancel: _Optional[_Union[CancelSession, _Mapping]] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("opened", "verdict", "done", "failed")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    verdict: Verdict
    done: Done
    failed: _drafter_pb2.Failure
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., failed: _Optional[_Union[_drafter_pb2.Failure, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("session_id", "model", "tokenizer_fingerprint", "prompt_token_ids", "committed_token_ids", "sampling", "required_fingerprint", "allow_degraded", "tenant")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ALLOW_DEGRADED_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    model: str
    tokenizer_fingerprint: str
    prompt_token_ids: _containers.RepeatedScalarFieldContainer[int]
    committed_token_ids: _containers.RepeatedScalarFieldContainer[int]
    sampling: _common_pb2.SamplingParams
    required_fingerprint: str
    allow_degraded: bool
    tenant: str
    def __init__(self, session_id: _Optional[str] = ..., model: _Optional[str] = ..., tokenizer_fingerprint: _Optional[str] = ..., prompt_token_ids: _Optional[_Iterable[int]] = ..., committed_token_ids: _Optional[_Iterable[int]] = ..., sampling: _Optional[_Union[_common_pb2.SamplingParams, _Mapping]] = ..., required_fingerprint: _Optional[str] = ..., allow_degraded: bool = ..., tenant: _Optional[str] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("fingerprint", "exactness", "context_length", "eos_token_ids", "prefill_ns", "queue_ns", "cached_tokens", "queue_depth")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    EXACTNESS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_NS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    exactness: _common_pb2.Exactness
    context_length: int
    eos_token_ids: _containers.RepeatedScalarFieldContainer[int]
    prefill_ns: int
    queue_ns: int
    cached_tokens: int
    queue_depth: int
    def __init__(self, fingerprint: _Optional[str] = ..., exactness: _Optional[_Union[_common_pb2.Exactness, str]] = ..., context_length: _Optional[int] = ..., eos_token_ids: _Optional[_Iterable[int]] = ..., prefill_ns: _Optional[int] = ..., queue_ns: _Optional[int] = ..., cached_tokens: _Optional[int] = ..., queue_depth: _Optional[int] = ...) -> None: ...

class DraftBlock(_message.Message):
    __slots__ = ("round", "base_position", "token_ids", "committed_tokens")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    round: int
    base_position: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    committed_tokens: int
    def __init__(self, round: _Optional[int] = ..., base_position: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., committed_tokens: _Optional[int] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("round", "accepted_tokens", "token_id", "finished", "compute_ns", "queue_ns", "logprobs", "agreed_tokens", "queue_depth")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_NS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    AGREED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    round: int
    accepted_tokens: int
    token_id: int
    finished: bool
    compute_ns: int
    queue_ns: int
    logprobs: _containers.RepeatedScalarFieldContainer[float]
    agreed_tokens: int
    queue_depth: int
    def __init__(self, round: _Optional[int] = ..., accepted_tokens: _Optional[int] = ..., token_id: _Optional[int] = ..., finished: bool = ..., compute_ns: _Optional[int] = ..., queue_ns: _Optional[int] = ..., logprobs: _Optional[_Iterable[float]] = ..., agreed_tokens: _Optional[int] = ..., queue_depth: _Optional[int] = ...) -> None: ...

class CancelSession(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Done(_message.Message):
    __slots__ = ("rounds",)
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    rounds: int
    def __init__(self, rounds: _Optional[int] = ...) -> None: ...

class VerifierServiceInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VerifierServiceInfoResponse(_message.Message):
    __slots__ = ("version", "model", "tokenizer_fingerprint", "artifact_digest", "fingerprint", "exactness", "context_length", "active_sessions", "queue_depth", "kv_bytes", "kv_budget_bytes", "draining", "prefill_ns_per_token")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    EXACTNESS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    KV_BYTES_FIELD_NUMBER: _ClassVar[int]
    KV_BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    PREFILL_NS_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    version: str
    model: str
    tokenizer_fingerprint: str
    artifact_digest: str
    fingerprint: str
    exactness: _common_pb2.Exactness
    context_length: int
    active_sessions: int
    queue_depth: int
    kv_bytes: int
    kv_budget_bytes: int
    draining: bool
    prefill_ns_per_token: float
    def __init__(self, version: _Optional[str] = ..., model: _Optional[str] = ..., tokenizer_fingerprint: _Optional[str] = ..., artifact_digest: _Optional[str] = ..., fingerprint: _Optional[str] = ..., exactness: _Optional[_Union[_common_pb2.Exactness, str]] = ..., context_length: _Optional[int] = ..., active_sessions: _Optional[int] = ..., queue_depth: _Optional[int] = ..., kv_bytes: _Optional[int] = ..., kv_budget_bytes: _Optional[int] = ..., draining: bool = ..., prefill_ns_per_token: _Optional[float] = ...) -> None: ...

class VerifierServiceCheckRequest(_message.Message):
    __slots__ = ("model", "tokenizer_fingerprint", "prompt_token_ids", "draft_token_ids", "tenant")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    model: str
    tokenizer_fingerprint: str
    prompt_token_ids: _containers.RepeatedScalarFieldContainer[int]
    draft_token_ids: _containers.RepeatedScalarFieldContainer[int]
    tenant: str
    def __init__(self, model: _Optional[str] = ..., tokenizer_fingerprint: _Optional[str] = ..., prompt_token_ids: _Optional[_Iterable[int]] = ..., draft_token_ids: _Optional[_Iterable[int]] = ..., tenant: _Optional[str] = ...) -> None: ...

class VerifierServiceCheckResponse(_message.Message):
    __slots__ = ("signals", "compute_ns", "queue_ns", "prefill_ns_per_token")
    class SignalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_NS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_NS_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    signals: _containers.ScalarMap[str, float]
    compute_ns: int
    queue_ns: int
    prefill_ns_per_token: float
    def __init__(self, signals: _Optional[_Mapping[str, float]] = ..., compute_ns: _Optional[int] = ..., queue_ns: _Optional[int] = ..., prefill_ns_per_token: _Optional[float] = ...) -> None: ...
