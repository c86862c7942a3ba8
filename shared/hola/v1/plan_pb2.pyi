from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RetrievalMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETRIEVAL_MODE_UNSPECIFIED: _ClassVar[RetrievalMode]
    RETRIEVAL_MODE_OFF: _ClassVar[RetrievalMode]
    RETRIEVAL_MODE_AUTO: _ClassVar[RetrievalMode]
    RETRIEVAL_MODE_LIGHT: _ClassVar[RetrievalMode]
    RETRIEVAL_MODE_DEEP: _ClassVar[RetrievalMode]

class StoreOutage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STORE_OUTAGE_UNSPECIFIED: _ClassVar[StoreOutage]
    STORE_OUTAGE_FAIL: _ClassVar[StoreOutage]
    STORE_OUTAGE_WITHOUT: _ClassVar[StoreOutage]

class RetrievalPlan(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETRIEVAL_PLAN_UNSPECIFIED: _ClassVar[RetrievalPlan]
    RETRIEVAL_PLAN_NONE: _ClassVar[RetrievalPlan]
    RETRIEVAL_PLAN_LIGHT: _ClassVar[RetrievalPlan]
    RETRIEVAL_PLAN_DEEP: _ClassVar[RetrievalPlan]
RETRIEVAL_MODE_UNSPECIFIED: RetrievalMode
RETRIEVAL_MODE_OFF: RetrievalMode
RETRIEVAL_MODE_AUTO: RetrievalMode
RETRIEVAL_MODE_LIGHT: RetrievalMode
RETRIEVAL_MODE_DEEP: RetrievalMode
STORE_OUTAGE_UNSPECIFIED: StoreOutage
STORE_OUTAGE_FAIL: StoreOutage
STORE_OUTAGE_WITHOUT: StoreOutage
RETRIEVAL_PLAN_UNSPECIFIED: RetrievalPlan
RETRIEVAL_PLAN_NONE: RetrievalPlan
RETRIEVAL_PLAN_LIGHT: RetrievalPlan
RETRIEVAL_PLAN_DEEP: RetrievalPlan

class RetrievalParams(_message.Message):
    __slots__ = ("mode", "collections", "max_passage_tokens", "latency_target_ms", "store_outage")
    MODE_FIELD_NUMBER: _ClassVar[int]
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_PASSAGE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_TARGET_MS_FIELD_NUMBER: _ClassVar[int]
    STORE_OUTAGE_FIELD_NUMBER: _ClassVar[int]
    mode: RetrievalMode
    collections: _containers.RepeatedScalarFieldContainer[str]
    max_passage_tokens: int
    latency_target_ms: int
    store_outage: StoreOutage
    def __init__(self, mode: _Optional[_Union[RetrievalMode, str]] = ..., collections: _Optional[_Iterable[str]] = ..., max_passage_tokens: _Optional[int] = ..., latency_target_ms: _Optional[int] = ..., store_outage: _Optional[_Union[StoreOutage, str]] = ...) -> None: ...

class CharRange(_message.Message):
    __slots__ = ("begin", "end")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    begin: int
    end: int
    def __init__(self, begin: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class Citation(_message.Message):
    __slots__ = ("number", "collection", "source", "title", "heading", "page", "chunk_id", "ranges", "text", "tokens", "score", "bm25", "dense", "cut")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    HEADING_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    BM25_FIELD_NUMBER: _ClassVar[int]
    DENSE_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    number: int
    collection: str
    source: str
    title: str
    heading: str
    page: int
    chunk_id: str
    ranges: _containers.RepeatedCompositeFieldContainer[CharRange]
    text: str
    tokens: int
    score: float
    bm25: float
    dense: float
    cut: str
    def __init__(self, number: _Optional[int] = ..., collection: _Optional[str] = ..., source: _Optional[str] = ..., title: _Optional[str] = ..., heading: _Optional[str] = ..., page: _Optional[int] = ..., chunk_id: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[CharRange, _Mapping]]] = ..., text: _Optional[str] = ..., tokens: _Optional[int] = ..., score: _Optional[float] = ..., bm25: _Optional[float] = ..., dense: _Optional[float] = ..., cut: _Optional[str] = ...) -> None: ...

class DepthWeight(_message.Message):
    __slots__ = ("depth", "gain", "helps", "cost_ms", "net")
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    GAIN_FIELD_NUMBER: _ClassVar[int]
    HELPS_FIELD_NUMBER: _ClassVar[int]
    COST_MS_FIELD_NUMBER: _ClassVar[int]
    NET_FIELD_NUMBER: _ClassVar[int]
    depth: RetrievalPlan
    gain: float
    helps: float
    cost_ms: float
    net: float
    def __init__(self, depth: _Optional[_Union[RetrievalPlan, str]] = ..., gain: _Optional[float] = ..., helps: _Optional[float] = ..., cost_ms: _Optional[float] = ..., net: _Optional[float] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("depth", "mode", "reasons", "notes", "signals", "judged_by", "weights", "citations", "cuts", "passage_tokens", "token_budget", "prefill_ms_per_token", "search_ms", "gate_ms")
    class SignalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    JUDGED_BY_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    CUTS_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_BUDGET_FIELD_NUMBER: _ClassVar[int]
    PREFILL_MS_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SEARCH_MS_FIELD_NUMBER: _ClassVar[int]
    GATE_MS_FIELD_NUMBER: _ClassVar[int]
    depth: RetrievalPlan
    mode: RetrievalMode
    reasons: _containers.RepeatedScalarFieldContainer[str]
    notes: _containers.RepeatedScalarFieldContainer[str]
    signals: _containers.ScalarMap[str, float]
    judged_by: _containers.RepeatedScalarFieldContainer[str]
    weights: _containers.RepeatedCompositeFieldContainer[DepthWeight]
    citations: _containers.RepeatedCompositeFieldContainer[Citation]
    cuts: _containers.RepeatedCompositeFieldContainer[Citation]
    passage_tokens: int
    token_budget: int
    prefill_ms_per_token: float
    search_ms: float
    gate_ms: float
    def __init__(self, depth: _Optional[_Union[RetrievalPlan, str]] = ..., mode: _Optional[_Union[RetrievalMode, str]] = ..., reasons: _Optional[_Iterable[str]] = ..., notes: _Optional[_Iterable[str]] = ..., signals: _Optional[_Mapping[str, float]] = ..., judged_by: _Optional[_Iterable[str]] = ..., weights: _Optional[_Iterable[_Union[DepthWeight, _Mapping]]] = ..., citations: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ..., cuts: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ..., passage_tokens: _Optional[int] = ..., token_budget: _Optional[int] = ..., prefill_ms_per_token: _Optional[float] = ..., search_ms: _Optional[float] = ..., gate_ms: _Optional[float] = ...) -> None: ...
