from hola.v1 import plan_pb2 as _plan_pb2
from hola.v1 import router_pb2 as _router_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IngestState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INGEST_STATE_UNSPECIFIED: _ClassVar[IngestState]
    INGEST_STATE_QUEUED: _ClassVar[IngestState]
    INGEST_STATE_RUNNING: _ClassVar[IngestState]
    INGEST_STATE_DONE: _ClassVar[IngestState]
    INGEST_STATE_FAILED: _ClassVar[IngestState]

class SearchMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH_MODE_UNSPECIFIED: _ClassVar[SearchMode]
    SEARCH_MODE_BM25: _ClassVar[SearchMode]
    SEARCH_MODE_DENSE: _ClassVar[SearchMode]
    SEARCH_MODE_HYBRID: _ClassVar[SearchMode]

class Fusion(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FUSION_UNSPECIFIED: _ClassVar[Fusion]
    FUSION_RELATIVE: _ClassVar[Fusion]
    FUSION_RECIPROCAL: _ClassVar[Fusion]
INGEST_STATE_UNSPECIFIED: IngestState
INGEST_STATE_QUEUED: IngestState
INGEST_STATE_RUNNING: IngestState
INGEST_STATE_DONE: IngestState
INGEST_STATE_FAILED: IngestState
SEARCH_MODE_UNSPECIFIED: SearchMode
SEARCH_MODE_BM25: SearchMode
SEARCH_MODE_DENSE: SearchMode
SEARCH_MODE_HYBRID: SearchMode
FUSION_UNSPECIFIED: Fusion
FUSION_RELATIVE: Fusion
FUSION_RECIPROCAL: Fusion

class IngestOptions(_message.Message):
    __slots__ = ("collection", "chunk_chars", "overlap_chars", "prune", "background")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    CHUNK_CHARS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_CHARS_FIELD_NUMBER: _ClassVar[int]
    PRUNE_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    collection: str
    chunk_chars: int
    overlap_chars: int
    prune: _containers.RepeatedScalarFieldContainer[str]
    background: bool
    def __init__(self, collection: _Optional[str] = ..., chunk_chars: _Optional[int] = ..., overlap_chars: _Optional[int] = ..., prune: _Optional[_Iterable[str]] = ..., background: bool = ...) -> None: ...

class IngestFile(_message.Message):
    __slots__ = ("source", "name", "format")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    source: str
    name: str
    format: str
    def __init__(self, source: _Optional[str] = ..., name: _Optional[str] = ..., format: _Optional[str] = ...) -> None: ...

class IngestDocument(_message.Message):
    __slots__ = ("source", "title", "text")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    source: str
    title: str
    text: str
    def __init__(self, source: _Optional[str] = ..., title: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class IngestEnd(_message.Message):
    __slots__ = ("incomplete",)
    INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    incomplete: bool
    def __init__(self, incomplete: bool = ...) -> None: ...

class RetrievalServiceIngestRequest(_message.Message):
    __slots__ = ("options", "file", "data", "document", "end")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    options: IngestOptions
    file: IngestFile
    data: bytes
    document: IngestDocument
    end: IngestEnd
    def __init__(self, options: _Optional[_Union[IngestOptions, _Mapping]] = ..., file: _Optional[_Union[IngestFile, _Mapping]] = ..., data: _Optional[bytes] = ..., document: _Optional[_Union[IngestDocument, _Mapping]] = ..., end: _Optional[_Union[IngestEnd, _Mapping]] = ...) -> None: ...

class IngestRefusal(_message.Message):
    __slots__ = ("source", "reason", "message")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    source: str
    reason: str
    message: str
    def __init__(self, source: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class IngestReport(_message.Message):
    __slots__ = ("job_id", "collection", "state", "files", "files_done", "bytes", "added", "unchanged", "pruned", "chunks", "refused", "refusals", "reason", "message", "attempts", "submitted_unix_ms", "updated_unix_ms")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    FILES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    PRUNED_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    collection: str
    state: IngestState
    files: int
    files_done: int
    bytes: int
    added: int
    unchanged: int
    pruned: int
    chunks: int
    refused: int
    refusals: _containers.RepeatedCompositeFieldContainer[IngestRefusal]
    reason: str
    message: str
    attempts: int
    submitted_unix_ms: int
    updated_unix_ms: int
    def __init__(self, job_id: _Optional[str] = ..., collection: _Optional[str] = ..., state: _Optional[_Union[IngestState, str]] = ..., files: _Optional[int] = ..., files_done: _Optional[int] = ..., bytes: _Optional[int] = ..., added: _Optional[int] = ..., unchanged: _Optional[int] = ..., pruned: _Optional[int] = ..., chunks: _Optional[int] = ..., refused: _Optional[int] = ..., refusals: _Optional[_Iterable[_Union[IngestRefusal, _Mapping]]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., attempts: _Optional[int] = ..., submitted_unix_ms: _Optional[int] = ..., updated_unix_ms: _Optional[int] = ...) -> None: ...

class RetrievalServiceIngestResponse(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: IngestReport
    def __init__(self, report: _Optional[_Union[IngestReport, _Mapping]] = ...) -> None: ...

class RetrievalServiceWatchIngestRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class RetrievalServiceWatchIngestResponse(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: IngestReport
    def __init__(self, report: _Optional[_Union[IngestReport, _Mapping]] = ...) -> None: ...

class RetrievalServiceSearchRequest(_message.Message):
    __slots__ = ("query", "collections", "k", "mode", "alpha", "fusion")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    FUSION_FIELD_NUMBER: _ClassVar[int]
    query: str
    collections: _containers.RepeatedScalarFieldContainer[str]
    k: int
    mode: SearchMode
    alpha: float
    fusion: Fusion
    def __init__(self, query: _Optional[str] = ..., collections: _Optional[_Iterable[str]] = ..., k: _Optional[int] = ..., mode: _Optional[_Union[SearchMode, str]] = ..., alpha: _Optional[float] = ..., fusion: _Optional[_Union[Fusion, str]] = ...) -> None: ...

class Passage(_message.Message):
    __slots__ = ("collection", "source", "also_in", "ordinal", "text", "title", "heading", "page", "score", "bm25", "dense", "chunk_id")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ALSO_IN_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    HEADING_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    BM25_FIELD_NUMBER: _ClassVar[int]
    DENSE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    collection: str
    source: str
    also_in: _containers.RepeatedScalarFieldContainer[str]
    ordinal: int
    text: str
    title: str
    heading: str
    page: int
    score: float
    bm25: float
    dense: float
    chunk_id: str
    def __init__(self, collection: _Optional[str] = ..., source: _Optional[str] = ..., also_in: _Optional[_Iterable[str]] = ..., ordinal: _Optional[int] = ..., text: _Optional[str] = ..., title: _Optional[str] = ..., heading: _Optional[str] = ..., page: _Optional[int] = ..., score: _Optional[float] = ..., bm25: _Optional[float] = ..., dense: _Optional[float] = ..., chunk_id: _Optional[str] = ...) -> None: ...

class SearchedCollection(_message.Message):
    __slots__ = ("name", "mode", "note")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    name: str
    mode: SearchMode
    note: str
    def __init__(self, name: _Optional[str] = ..., mode: _Optional[_Union[SearchMode, str]] = ..., note: _Optional[str] = ...) -> None: ...

class RetrievalServiceSearchResponse(_message.Message):
    __slots__ = ("passages", "searched")
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    SEARCHED_FIELD_NUMBER: _ClassVar[int]
    passages: _containers.RepeatedCompositeFieldContainer[Passage]
    searched: _containers.RepeatedCompositeFieldContainer[SearchedCollection]
    def __init__(self, passages: _Optional[_Iterable[_Union[Passage, _Mapping]]] = ..., searched: _Optional[_Iterable[_Union[SearchedCollection, _Mapping]]] = ...) -> None: ...

class RetrievalServiceDeleteRequest(_message.Message):
    __slots__ = ("collection", "source", "whole_collection")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    WHOLE_COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    source: str
    whole_collection: bool
    def __init__(self, collection: _Optional[str] = ..., source: _Optional[str] = ..., whole_collection: bool = ...) -> None: ...

class RetrievalServiceDeleteResponse(_message.Message):
    __slots__ = ("documents", "chunks")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    documents: int
    chunks: int
    def __init__(self, documents: _Optional[int] = ..., chunks: _Optional[int] = ...) -> None: ...

class RetrievalServiceStatsRequest(_message.Message):
    __slots__ = ("collection", "sources", "after")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    sources: int
    after: str
    def __init__(self, collection: _Optional[str] = ..., sources: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class CollectionInfo(_message.Message):
    __slots__ = ("name", "documents", "chunks", "bytes", "embedder", "dimensions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    EMBEDDER_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    documents: int
    chunks: int
    bytes: int
    embedder: str
    dimensions: int
    def __init__(self, name: _Optional[str] = ..., documents: _Optional[int] = ..., chunks: _Optional[int] = ..., bytes: _Optional[int] = ..., embedder: _Optional[str] = ..., dimensions: _Optional[int] = ...) -> None: ...

class RetrievalServiceStatsResponse(_message.Message):
    __slots__ = ("collections", "embedder", "sources", "jobs")
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDER_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    collections: _containers.RepeatedCompositeFieldContainer[CollectionInfo]
    embedder: str
    sources: _containers.RepeatedScalarFieldContainer[str]
    jobs: _containers.RepeatedCompositeFieldContainer[IngestReport]
    def __init__(self, collections: _Optional[_Iterable[_Union[CollectionInfo, _Mapping]]] = ..., embedder: _Optional[str] = ..., sources: _Optional[_Iterable[str]] = ..., jobs: _Optional[_Iterable[_Union[IngestReport, _Mapping]]] = ...) -> None: ...

class RetrievalServicePlanRequest(_message.Message):
    __slots__ = ("model", "messages", "retrieval", "max_tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    RETRIEVAL_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[_router_pb2.ChatMessage]
    retrieval: _plan_pb2.RetrievalParams
    max_tokens: int
    def __init__(self, model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_router_pb2.ChatMessage, _Mapping]]] = ..., retrieval: _Optional[_Union[_plan_pb2.RetrievalParams, _Mapping]] = ..., max_tokens: _Optional[int] = ...) -> None: ...

class RetrievalServicePlanResponse(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: _plan_pb2.Plan
    def __init__(self, plan: _Optional[_Union[_plan_pb2.Plan, _Mapping]] = ...) -> None: ...
