"""Retrieval's messages: what is ingested, how far it is, questions, passages, and what there is."""

from __future__ import annotations

from hola.convert.fields import build, enum_from_pb, named_from_pb
from hola.errors import InvalidRequest, ProtocolViolation
from hola.retrieval.chunking import DEFAULT_MAX_CHARS, DEFAULT_OVERLAP_CHARS
from hola.retrieval.ingest_job import (
    End,
    FileHead,
    IngestJob,
    IngestOptions,
    IngestPart,
    IngestReport,
    IngestState,
    Refusal,
    TextDocument,
)
from hola.retrieval.queries import (
    DEFAULT_K,
    LibraryStats,
    SearchAnswer,
    Searched,
    SearchQuestion,
)
from hola.retrieval.types import (
    DEFAULT_ALPHA,
    DEFAULT_COLLECTION,
    Changes,
    Chunk,
    Collection,
    Fusion,
    Passage,
    SearchMode,
)
from hola.v1 import events_pb2, retrieval_pb2 as pb

_MODES = {SearchMode.BM25: 1, SearchMode.DENSE: 2, SearchMode.HYBRID: 3}
_FUSIONS = {Fusion.RELATIVE: 1, Fusion.RECIPROCAL: 2}


def ingest_options_to_pb(options: IngestOptions) -> pb.IngestOptions:
    """Raises InvalidRequest when a value does not fit its wire type."""
    return build(
        pb.IngestOptions,
        InvalidRequest,
        collection=options.collection,
        chunk_chars=options.chunk_chars,
        overlap_chars=options.overlap_chars,
        prune=options.prune,
        background=options.background,
    )


def ingest_options_from_pb(message: pb.IngestOptions) -> IngestOptions:
    """With the documented values in place of what is unset."""
    given = message.HasField
    return IngestOptions(
        collection=message.collection or DEFAULT_COLLECTION,
        chunk_chars=message.chunk_chars if given("chunk_chars") else DEFAULT_MAX_CHARS,
        overlap_chars=message.overlap_chars if given("overlap_chars") else DEFAULT_OVERLAP_CHARS,
        prune=tuple(message.prune),
        background=message.background if given("background") else None,
    )


def ingest_part_to_pb(part: IngestPart) -> pb.RetrievalServiceIngestRequest:
    """Raises InvalidRequest when a value does not fit its wire type."""
    request = pb.RetrievalServiceIngestRequest
    match part:
        case IngestOptions():
            return request(options=ingest_options_to_pb(part))
        case FileHead():
            head = build(
                pb.IngestFile, InvalidRequest, source=part.source, name=part.name, format=part.form
            )
            return request(file=head)
        case TextDocument():
            document = build(
                pb.IngestDocument,
                InvalidRequest,
                source=part.source,
                title=part.title,
                text=part.text,
            )
            return request(document=document)
        case End():
            return request(end=pb.IngestEnd(incomplete=part.incomplete))
        case _:
            return request(data=part)


def ingest_part_from_pb(message: pb.RetrievalServiceIngestRequest) -> IngestPart:
    """Raises InvalidRequest where no part is set."""
    match message.WhichOneof("part"):
        case "options":
            return ingest_options_from_pb(message.options)
        case "file":
            file = message.file
            return FileHead(source=file.source, name=file.name, form=file.format)
        case "document":
            document = message.document
            return TextDocument(source=document.source, title=document.title, text=document.text)
        case "data":
            return message.data
        case "end":
            return End(incomplete=message.end.incomplete)
    raise InvalidRequest("part: none is set that is known", field="part")


def ingest_job_to_pb(job: IngestJob) -> events_pb2.IngestJob:
    """Raises InvalidRequest when a value does not fit its wire type."""
    return build(
        events_pb2.IngestJob,
        InvalidRequest,
        job_id=job.job_id,
        tenant=job.tenant,
        options=ingest_options_to_pb(job.options),
        files=job.files,
        bytes=job.bytes,
        digest=job.digest,
        submitted_unix_ms=job.submitted_unix_ms,
    )


def ingest_job_from_pb(message: events_pb2.IngestJob) -> IngestJob:
    """Raises nothing: every value of the message is one of the domain's."""
    return IngestJob(
        job_id=message.job_id,
        tenant=message.tenant,
        options=ingest_options_from_pb(message.options),
        files=message.files,
        bytes=message.bytes,
        digest=message.digest,
        submitted_unix_ms=message.submitted_unix_ms,
    )


def ingest_report_to_pb(report: IngestReport, *, refusals: bool = True) -> pb.IngestReport:
    """`refusals` False leaves them out. Raises ProtocolViolation on what does not fit."""
    listed = [
        pb.IngestRefusal(source=one.source, reason=one.reason, message=one.message)
        for one in (report.refusals if refusals else ())
    ]
    return build(
        pb.IngestReport,
        ProtocolViolation,
        job_id=report.job_id,
        collection=report.collection,
        state=report.state,
        files=report.files,
        files_done=report.files_done,
        bytes=report.bytes,
        added=report.added,
        unchanged=report.unchanged,
        pruned=report.pruned,
        chunks=report.chunks,
        refused=report.refused,
        refusals=listed,
        reason=report.reason,
        message=report.message,
        attempts=report.attempts,
        submitted_unix_ms=report.submitted_unix_ms,
        updated_unix_ms=report.updated_unix_ms,
    )


def ingest_report_from_pb(message: pb.IngestReport) -> IngestReport:
    """Raises ProtocolViolation on a state that is none."""
    return IngestReport(
        job_id=message.job_id,
        collection=message.collection,
        state=enum_from_pb(IngestState, message.state, "state", ProtocolViolation),
        files=message.files,
        files_done=message.files_done,
        bytes=message.bytes,
        added=message.added,
        unchanged=message.unchanged,
        pruned=message.pruned,
        chunks=message.chunks,
        refused=message.refused,
        refusals=tuple(
            Refusal(source=one.source, reason=one.reason, message=one.message)
            for one in message.refusals
        ),
        reason=message.reason,
        message=message.message,
        attempts=message.attempts,
        submitted_unix_ms=message.submitted_unix_ms,
        updated_unix_ms=message.updated_unix_ms,
    )


def question_to_pb(question: SearchQuestion) -> pb.RetrievalServiceSearchRequest:
    """Raises InvalidRequest when a value does not fit its wire type."""
    return build(
        pb.RetrievalServiceSearchRequest,
        InvalidRequest,
        query=question.text,
        collections=question.collections,
        k=question.k,
        mode=_MODES[question.mode] if question.mode else 0,
        alpha=question.alpha,
        fusion=_FUSIONS[question.fusion],
    )


def question_from_pb(message: pb.RetrievalServiceSearchRequest) -> SearchQuestion:
    """Raises InvalidRequest on a mode or fusion that is none."""
    return SearchQuestion(
        text=message.query,
        collections=tuple(message.collections) or (DEFAULT_COLLECTION,),
        k=message.k if message.HasField("k") else DEFAULT_K,
        mode=named_from_pb(_MODES, message.mode, "mode", InvalidRequest) if message.mode else None,
        alpha=message.alpha if message.HasField("alpha") else DEFAULT_ALPHA,
        fusion=named_from_pb(_FUSIONS, message.fusion or 1, "fusion", InvalidRequest),
    )


def answer_to_pb(answer: SearchAnswer) -> pb.RetrievalServiceSearchResponse:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    searched = [
        pb.SearchedCollection(name=one.name, mode=_MODES[one.mode], note=one.note)  # type: ignore[arg-type]
        for one in answer.searched
    ]
    passages = [_passage_to_pb(name, passage) for name, passage in answer.passages]
    return pb.RetrievalServiceSearchResponse(passages=passages, searched=searched)


def answer_from_pb(message: pb.RetrievalServiceSearchResponse) -> SearchAnswer:
    """Raises ProtocolViolation on a mode that is none."""
    return SearchAnswer(
        passages=tuple((one.collection, _passage_from_pb(one)) for one in message.passages),
        searched=tuple(
            Searched(
                name=one.name,
                mode=named_from_pb(_MODES, one.mode, "mode", ProtocolViolation),
                note=one.note,
            )
            for one in message.searched
        ),
    )


def stats_to_pb(stats: LibraryStats) -> pb.RetrievalServiceStatsResponse:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    return build(
        pb.RetrievalServiceStatsResponse,
        ProtocolViolation,
        collections=[_collection_to_pb(held) for held in stats.collections],
        embedder=stats.embedder,
        sources=stats.sources,
        jobs=[ingest_report_to_pb(report, refusals=False) for report in stats.jobs],
    )


def stats_from_pb(message: pb.RetrievalServiceStatsResponse) -> LibraryStats:
    """The tenant of a collection is not told, and empty. Raises ProtocolViolation."""
    return LibraryStats(
        collections=tuple(
            Collection(
                tenant="",
                name=one.name,
                embedder=one.embedder,
                dimensions=one.dimensions,
                documents=one.documents,
                chunks=one.chunks,
                bytes=one.bytes,
            )
            for one in message.collections
        ),
        embedder=message.embedder,
        sources=tuple(message.sources),
        jobs=tuple(map(ingest_report_from_pb, message.jobs)),
    )


def deletion_from_pb(message: pb.RetrievalServiceDeleteRequest) -> tuple[str, str | None]:
    """The collection, and the source; None for all of it. Raises InvalidRequest on neither."""
    chosen = message.WhichOneof("what")
    if not message.collection:
        raise InvalidRequest("collection: none is named", field="collection")
    if chosen == "source":
        return message.collection, message.source
    if not message.whole_collection:
        raise InvalidRequest("what: neither source nor whole_collection is set", field="what")
    return message.collection, None


def deletion_to_pb(collection: str, source: str | None) -> pb.RetrievalServiceDeleteRequest:
    """`source` None: the whole collection. Raises InvalidRequest on text that is no Unicode."""
    whole = True if source is None else None
    return build(
        pb.RetrievalServiceDeleteRequest,
        InvalidRequest,
        collection=collection,
        source=source,
        whole_collection=whole,
    )


def changes_to_pb(changes: Changes) -> pb.RetrievalServiceDeleteResponse:
    """What a deletion removed."""
    return pb.RetrievalServiceDeleteResponse(
        documents=changes.documents, chunks=changes.chunks_removed
    )


def changes_from_pb(message: pb.RetrievalServiceDeleteResponse) -> Changes:
    """What a deletion removed."""
    return Changes(documents=message.documents, chunks_removed=message.chunks)


def _collection_to_pb(held: Collection) -> pb.CollectionInfo:
    return pb.CollectionInfo(
        name=held.name,
        documents=held.documents,
        chunks=held.chunks,
        bytes=held.bytes,
        embedder=held.embedder,
        dimensions=held.dimensions,
    )


def _passage_to_pb(collection: str, passage: Passage) -> pb.Passage:
    chunk = passage.chunk
    return pb.Passage(
        collection=collection,
        source=passage.source,
        also_in=passage.also_in,
        ordinal=passage.ordinal,
        text=chunk.text,
        title=chunk.title,
        heading=chunk.heading,
        page=chunk.page,
        score=passage.score,
        bm25=passage.bm25,
        dense=passage.dense,
        chunk_id=chunk.id,
    )


def _passage_from_pb(message: pb.Passage) -> Passage:
    return Passage(
        chunk=Chunk(
            text=message.text, title=message.title, heading=message.heading, page=message.page
        ),
        source=message.source,
        ordinal=message.ordinal,
        score=message.score,
        bm25=message.bm25 if message.HasField("bm25") else None,
        dense=message.dense if message.HasField("dense") else None,
        also_in=tuple(message.also_in),
    )
