from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Exactness(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXACTNESS_UNSPECIFIED: _ClassVar[Exactness]
    EXACTNESS_EXACT: _ClassVar[Exactness]
    EXACTNESS_DEGRADED: _ClassVar[Exactness]
    EXACTNESS_GATED: _ClassVar[Exactness]
    EXACTNESS_UNVERIFIED: _ClassVar[Exactness]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_EXACT: _ClassVar[Mode]
    MODE_GATED: _ClassVar[Mode]

class Outage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTAGE_UNSPECIFIED: _ClassVar[Outage]
    OUTAGE_WAIT: _ClassVar[Outage]
    OUTAGE_FAIL: _ClassVar[Outage]
    OUTAGE_LOCAL: _ClassVar[Outage]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_ACCEPTED: _ClassVar[Outcome]
    OUTCOME_CORRECTED: _ClassVar[Outcome]
    OUTCOME_BONUS: _ClassVar[Outcome]
    OUTCOME_PLAIN: _ClassVar[Outcome]
    OUTCOME_UNVERIFIED: _ClassVar[Outcome]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP_TOKEN: _ClassVar[FinishReason]
    FINISH_REASON_STOP_STRING: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_CANCELLED: _ClassVar[FinishReason]
EXACTNESS_UNSPECIFIED: Exactness
EXACTNESS_EXACT: Exactness
EXACTNESS_DEGRADED: Exactness
EXACTNESS_GATED: Exactness
EXACTNESS_UNVERIFIED: Exactness
MODE_UNSPECIFIED: Mode
MODE_EXACT: Mode
MODE_GATED: Mode
OUTAGE_UNSPECIFIED: Outage
OUTAGE_WAIT: Outage
OUTAGE_FAIL: Outage
OUTAGE_LOCAL: Outage
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_ACCEPTED: Outcome
OUTCOME_CORRECTED: Outcome
OUTCOME_BONUS: Outcome
OUTCOME_PLAIN: Outcome
OUTCOME_UNVERIFIED: Outcome
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP_TOKEN: FinishReason
FINISH_REASON_STOP_STRING: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_CANCELLED: FinishReason

class SamplingParams(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "min_p", "seed", "max_tokens", "stop", "stop_token_ids", "logprobs")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    max_tokens: int
    stop: _containers.RepeatedScalarFieldContainer[bytes]
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    logprobs: bool
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., min_p: _Optional[float] = ..., seed: _Optional[int] = ..., max_tokens: _Optional[int] = ..., stop: _Optional[_Iterable[bytes]] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., logprobs: bool = ...) -> None: ...

class SpeculationParams(_message.Message):
    __slots__ = ("mode", "max_draft_tokens", "entropy_threshold", "ladder", "outage")
    MODE_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    LADDER_FIELD_NUMBER: _ClassVar[int]
    OUTAGE_FIELD_NUMBER: _ClassVar[int]
    mode: Mode
    max_draft_tokens: int
    entropy_threshold: float
    ladder: _containers.RepeatedScalarFieldContainer[str]
    outage: Outage
    def __init__(self, mode: _Optional[_Union[Mode, str]] = ..., max_draft_tokens: _Optional[int] = ..., entropy_threshold: _Optional[float] = ..., ladder: _Optional[_Iterable[str]] = ..., outage: _Optional[_Union[Outage, str]] = ...) -> None: ...

class TokenEvent(_message.Message):
    __slots__ = ("token_id", "text", "tier", "outcome", "logprob")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    text: str
    tier: int
    outcome: Outcome
    logprob: float
    def __init__(self, token_id: _Optional[int] = ..., text: _Optional[str] = ..., tier: _Optional[int] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., logprob: _Optional[float] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue_ns", "prefill_ns", "draft_ns", "verify_ns", "verify_queue_ns", "network_ns", "other_ns", "total_ns")
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_NS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_NS_FIELD_NUMBER: _ClassVar[int]
    VERIFY_NS_FIELD_NUMBER: _ClassVar[int]
    VERIFY_QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_NS_FIELD_NUMBER: _ClassVar[int]
    OTHER_NS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    queue_ns: int
    prefill_ns: int
    draft_ns: int
    verify_ns: int
    verify_queue_ns: int
    network_ns: int
    other_ns: int
    total_ns: int
    def __init__(self, queue_ns: _Optional[int] = ..., prefill_ns: _Optional[int] = ..., draft_ns: _Optional[int] = ..., verify_ns: _Optional[int] = ..., verify_queue_ns: _Optional[int] = ..., network_ns: _Optional[int] = ..., other_ns: _Optional[int] = ..., total_ns: _Optional[int] = ...) -> None: ...

class TierCounts(_message.Message):
    __slots__ = ("tier", "proposed_tokens", "accepted_tokens")
    TIER_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    tier: str
    proposed_tokens: int
    accepted_tokens: int
    def __init__(self, tier: _Optional[str] = ..., proposed_tokens: _Optional[int] = ..., accepted_tokens: _Optional[int] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("finish_reason", "prompt_tokens", "completion_tokens", "accepted_tokens", "corrected_tokens", "bonus_tokens", "plain_tokens", "unverified_tokens", "rounds", "tiers", "timings", "exactness", "agreed_tokens", "reconnects", "corrections")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CORRECTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BONUS_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PLAIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    UNVERIFIED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    EXACTNESS_FIELD_NUMBER: _ClassVar[int]
    AGREED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RECONNECTS_FIELD_NUMBER: _ClassVar[int]
    CORRECTIONS_FIELD_NUMBER: _ClassVar[int]
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    accepted_tokens: int
    corrected_tokens: int
    bonus_tokens: int
    plain_tokens: int
    unverified_tokens: int
    rounds: int
    tiers: _containers.RepeatedCompositeFieldContainer[TierCounts]
    timings: Timings
    exactness: Exactness
    agreed_tokens: int
    reconnects: int
    corrections: int
    def __init__(self, finish_reason: _Optional[_Union[FinishReason, str]] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., accepted_tokens: _Optional[int] = ..., corrected_tokens: _Optional[int] = ..., bonus_tokens: _Optional[int] = ..., plain_tokens: _Optional[int] = ..., unverified_tokens: _Optional[int] = ..., rounds: _Optional[int] = ..., tiers: _Optional[_Iterable[_Union[TierCounts, _Mapping]]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., exactness: _Optional[_Union[Exactness, str]] = ..., agreed_tokens: _Optional[int] = ..., reconnects: _Optional[int] = ..., corrections: _Optional[int] = ...) -> None: ...
