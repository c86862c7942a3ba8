"""Retrieval's types survive the wire and the bus; garbage gets a typed error or is a value."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings, strategies as st

from hola import convert
from hola.errors import HolaError, InvalidRequest, ProtocolViolation
from hola.retrieval.ingest_job import (
    End,
    FileHead,
    IngestJob,
    IngestOptions,
    IngestReport,
    IngestState,
    Refusal,
    TextDocument,
)
from hola.retrieval.queries import LibraryStats, SearchAnswer, Searched, SearchQuestion
from hola.retrieval.types import Changes, Chunk, Collection, Fusion, Passage, SearchMode
from hola.v1 import events_pb2, retrieval_pb2 as pb
from tests.support.domain import names, some_text, text, uint32, uint64

real = st.floats(allow_nan=False)
options = st.builds(
    IngestOptions,
    collection=some_text,
    chunk_chars=uint32,
    overlap_chars=uint32,
    prune=names,
    background=st.none() | st.booleans(),
)
ingest_parts = (
    options
    | st.builds(FileHead, source=text, name=text, form=text)
    | st.builds(TextDocument, source=text, text=text, title=text)
    | st.binary(max_size=20)
    | st.builds(End, incomplete=st.booleans())
)
counts = ("files", "files_done", "added", "unchanged", "pruned", "chunks", "refused", "attempts")
reports = st.builds(
    IngestReport,
    job_id=text,
    collection=text,
    state=st.sampled_from(IngestState),
    refusals=st.lists(st.builds(Refusal, source=text, reason=text, message=text), max_size=2).map(
        tuple
    ),
    reason=text,
    message=text,
    bytes=uint64,
    submitted_unix_ms=uint64,
    updated_unix_ms=uint64,
    **dict.fromkeys(counts, uint32),
)
ingest_jobs = st.builds(
    IngestJob,
    job_id=text,
    tenant=text,
    options=options,
    files=uint32,
    bytes=uint64,
    digest=text,
    submitted_unix_ms=uint64,
)
questions = st.builds(
    SearchQuestion,
    text=text,
    collections=st.lists(some_text, min_size=1, max_size=3).map(tuple),
    k=uint32,
    mode=st.none() | st.sampled_from(SearchMode),
    alpha=real,
    fusion=st.sampled_from(Fusion),
)
passages = st.builds(
    Passage,
    chunk=st.builds(Chunk, text=text, title=text, heading=text, page=uint32),
    source=text,
    ordinal=uint32,
    score=real,
    bm25=st.none() | real,
    dense=st.none() | real,
    also_in=names,
)
answers = st.builds(
    SearchAnswer,
    passages=st.lists(st.tuples(text, passages), max_size=2).map(tuple),
    searched=st.lists(
        st.builds(Searched, name=text, mode=st.sampled_from(SearchMode), note=text), max_size=2
    ).map(tuple),
)
held = st.builds(
    Collection,
    tenant=st.just(""),
    name=text,
    embedder=text,
    dimensions=uint32,
    documents=uint64,
    chunks=uint64,
    bytes=uint64,
)
bare = reports.map(lambda one: IngestReport(job_id=one.job_id, state=one.state, files=one.files))
stats = st.builds(
    LibraryStats,
    collections=st.lists(held, max_size=2).map(tuple),
    embedder=text,
    sources=names,
    jobs=st.lists(bare, max_size=2).map(tuple),
)
changes = st.builds(Changes, documents=uint64, chunks_removed=uint64)

ROUND_TRIPS: dict[str, tuple[Any, Any, Any, Any]] = {
    "part": (
        ingest_parts,
        convert.ingest_part_to_pb,
        convert.ingest_part_from_pb,
        pb.RetrievalServiceIngestRequest,
    ),
    "report": (
        reports,
        convert.ingest_report_to_pb,
        convert.ingest_report_from_pb,
        pb.IngestReport,
    ),
    "question": (
        questions,
        convert.question_to_pb,
        convert.question_from_pb,
        pb.RetrievalServiceSearchRequest,
    ),
    "answer": (
        answers,
        convert.answer_to_pb,
        convert.answer_from_pb,
        pb.RetrievalServiceSearchResponse,
    ),
    "stats": (stats, convert.stats_to_pb, convert.stats_from_pb, pb.RetrievalServiceStatsResponse),
    "changes": (
        changes,
        convert.changes_to_pb,
        convert.changes_from_pb,
        pb.RetrievalServiceDeleteResponse,
    ),
    "deletion": (
        st.tuples(some_text, st.none() | text),
        lambda what: convert.deletion_to_pb(*what),
        convert.deletion_from_pb,
        pb.RetrievalServiceDeleteRequest,
    ),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_value_comes_back_from_the_wire_as_it_was(name: str, data: st.DataObject) -> None:
    values, to_pb, from_pb, kind = ROUND_TRIPS[name]
    value = data.draw(values)
    assert from_pb(kind.FromString(to_pb(value).SerializeToString())) == value


@pytest.mark.parametrize("name", ROUND_TRIPS)
@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=48))
def test_garbage_is_refused_with_a_typed_error_or_is_a_value(name: str, raw: bytes) -> None:
    _, to_pb, from_pb, kind = ROUND_TRIPS[name]
    try:
        value = from_pb(kind.FromString(raw))
    except (DecodeError, HolaError):
        return
    to_pb(value)


@settings(max_examples=60, deadline=None)
@given(job=ingest_jobs, report=reports)
def test_bus_payloads_come_back(job: IngestJob, report: IngestReport) -> None:
    payload = convert.encode_ingest(job)
    assert convert.decode_ingest(payload) == job
    assert convert.ingest_id_of(payload) == job.job_id
    assert convert.decode_report(convert.encode_report(report)) == report


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=48))
def test_garbage_payloads_are_protocol_violations(raw: bytes) -> None:
    for decode in (convert.decode_ingest, convert.decode_report):
        with pytest.raises(ProtocolViolation):
            decode(raw)
    assert isinstance(convert.ingest_id_of(raw), str)


def test_a_payload_for_a_newer_reader_says_so() -> None:
    payload = events_pb2.IngestJobEnvelope(version=99).SerializeToString()
    with pytest.raises(ProtocolViolation) as refused:
        convert.decode_ingest(payload)
    assert "needs_reader" in refused.value.details


def test_unset_fields_have_the_documented_meaning() -> None:
    assert convert.ingest_options_from_pb(pb.IngestOptions()) == IngestOptions()
    assert convert.question_from_pb(pb.RetrievalServiceSearchRequest()) == SearchQuestion(text="")
    zero = pb.RetrievalServiceSearchRequest(k=0, alpha=0)
    assert (convert.question_from_pb(zero).k, convert.question_from_pb(zero).alpha) == (0, 0)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.RetrievalServiceDeleteRequest(source="a"), "collection"),
        (pb.RetrievalServiceDeleteRequest(collection="a"), "what"),
        (pb.RetrievalServiceDeleteRequest(collection="a", whole_collection=False), "what"),
    ],
)
def test_nothing_is_deleted_by_default(
    message: pb.RetrievalServiceDeleteRequest, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        convert.deletion_from_pb(message)
    assert refused.value.details["field"] == field


@pytest.mark.parametrize("name", ["mode", "fusion"])
def test_an_unknown_enum_is_named(name: str) -> None:
    message = pb.RetrievalServiceSearchRequest()
    setattr(message, name, 77)
    with pytest.raises(InvalidRequest, match=f"{name}: unknown value 77"):
        convert.question_from_pb(message)


def test_what_is_no_unicode_names_its_field() -> None:
    for part, field in (
        (FileHead(source="\ud800"), "source"),
        (TextDocument(source="a", text="\ud800"), "text"),
        (IngestOptions(collection="\ud800"), "collection"),
        (IngestOptions(chunk_chars=-1), "chunk_chars"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            convert.ingest_part_to_pb(part)
        assert refused.value.details["field"] == field
