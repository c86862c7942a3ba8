"""Every domain type survives the wire; what "unset" means; garbage gets an error with a field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings, strategies as st

from hola import convert
from hola.errors import (
    EmptyPrompt,
    HolaError,
    InvalidRequest,
    InvalidSampling,
    ProtocolViolation,
    UnknownModel,
)
from hola.types import (
    Correction,
    DraftBlock,
    Exactness,
    Failure,
    GenerateJob,
    GenerateRequest,
    JournalEntry,
    Mode,
    Outcome,
    RetrievalPlan,
    SamplingParams,
    SpeculationParams,
    Started,
    TokenEvent,
    Tokens,
)
from hola.v1 import common_pb2, drafter_pb2, events_pb2, plan_pb2, router_pb2, verifier_pb2
from tests.support import domain

ROUND_TRIPS: dict[str, tuple[Any, Any, Any, Any]] = {
    "sampling": (
        domain.sampling,
        convert.sampling_to_pb,
        convert.sampling_from_pb,
        common_pb2.SamplingParams,
    ),
    "speculation": (
        domain.speculation,
        convert.speculation_to_pb,
        convert.speculation_from_pb,
        common_pb2.SpeculationParams,
    ),
    "retrieval": (
        domain.retrievals,
        convert.retrieval_to_pb,
        convert.retrieval_from_pb,
        plan_pb2.RetrievalParams,
    ),
    "plan": (domain.plans, convert.plan_to_pb, convert.plan_from_pb, plan_pb2.Plan),
    "check request": (
        domain.check_requests,
        convert.check_request_to_pb,
        convert.check_request_from_pb,
        verifier_pb2.VerifierServiceCheckRequest,
    ),
    "checked": (
        domain.checked,
        convert.checked_to_pb,
        convert.checked_from_pb,
        verifier_pb2.VerifierServiceCheckResponse,
    ),
    "job": (domain.jobs, convert.job_to_pb, convert.job_from_pb, drafter_pb2.GenerateJob),
    "request": (
        domain.requests,
        convert.request_to_pb,
        convert.request_from_pb,
        router_pb2.RouterServiceGenerateRequest,
    ),
    "event": (
        domain.events,
        convert.event_to_pb,
        convert.event_from_pb,
        drafter_pb2.GenerateEvent,
    ),
    "verifier request": (
        domain.verifier_requests,
        convert.verifier_request_to_pb,
        convert.verifier_request_from_pb,
        verifier_pb2.VerifyRequest,
    ),
    "verifier response": (
        domain.verifier_responses,
        convert.verifier_response_to_pb,
        convert.verifier_response_from_pb,
        verifier_pb2.VerifyResponse,
    ),
    "verifier info": (
        domain.verifier_infos,
        convert.verifier_info_to_pb,
        convert.verifier_info_from_pb,
        verifier_pb2.VerifierServiceInfoResponse,
    ),
    "drafter info": (
        domain.drafter_infos,
        convert.drafter_info_to_pb,
        convert.drafter_info_from_pb,
        drafter_pb2.DrafterServiceInfoResponse,
    ),
    "router info": (
        domain.router_infos,
        convert.router_info_to_pb,
        convert.router_info_from_pb,
        router_pb2.RouterServiceInfoResponse,
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
@settings(max_examples=150, deadline=None)
@given(raw=st.binary(max_size=48))
def test_garbage_is_refused_with_a_typed_error_or_is_a_value(name: str, raw: bytes) -> None:
    _, to_pb, from_pb, kind = ROUND_TRIPS[name]
    try:
        message = kind.FromString(raw)
    except DecodeError:
        return  # gRPC refuses these before any of our code runs
    try:
        value = from_pb(message)
    except HolaError:
        return
    to_pb(value)


@settings(max_examples=60, deadline=None)
@given(job=domain.jobs)
def test_a_job_comes_back_from_its_payload(job: GenerateJob) -> None:
    payload = convert.encode_job(job)
    assert convert.decode_job(payload) == job
    assert convert.request_id_of(payload) == job.request_id


@settings(max_examples=60, deadline=None)
@given(entry=domain.entries)
def test_an_entry_comes_back_from_its_payload(entry: Any) -> None:
    assert convert.decode_entry(convert.encode_entry(entry)) == entry


@settings(max_examples=150, deadline=None)
@given(raw=st.binary(max_size=48))
def test_garbage_payloads_are_protocol_violations(raw: bytes) -> None:
    for decode in (convert.decode_job, convert.decode_entry):
        with pytest.raises(ProtocolViolation):
            decode(raw)
    assert isinstance(convert.request_id_of(raw), str)


@pytest.mark.parametrize("version", [0, 3, 99])
def test_a_payload_that_needs_a_newer_reader_or_has_no_version_is_refused(version: int) -> None:
    job = convert.job_to_pb(GenerateJob(request_id="r", model="m", prompt="p"))
    payload = events_pb2.JobEnvelope(version=version, job=job).SerializeToString()
    with pytest.raises(ProtocolViolation, match="version: ") as caught:
        convert.decode_job(payload)
    assert caught.value.details["field"] == "version"
    assert ("needs_reader" in caught.value.details) == (version > 0)
    assert convert.request_id_of(payload) == "r"
    for decode in (convert.decode_entry, convert.decode_record):
        with pytest.raises(ProtocolViolation):
            decode(payload)


def test_a_payload_of_a_newer_writer_that_this_reader_understands_is_read() -> None:
    job = GenerateJob(request_id="r", model="m", prompt="p")
    newer_field = b"\xfa\x7f\x03new"  # field 2047, of a type this reader has not heard of
    newer = events_pb2.JobEnvelope.FromString(convert.encode_job(job) + newer_field)
    newer.version = 2
    assert convert.decode_job(newer.SerializeToString()) == job
    token = TokenEvent(token=1, text="x", tier=0, outcome=Outcome.PLAIN)
    entry = JournalEntry(event=Tokens(position=0, tokens=(token,)), writer="w")
    assert convert.decode_entry(convert.encode_entry(entry) + newer_field) == entry


def test_only_a_correction_needs_more_than_the_first_reader() -> None:
    token = TokenEvent(token=1, text="x", tier=0, outcome=Outcome.UNVERIFIED)
    versions = {
        type(event).__name__: events_pb2.JournalEntry.FromString(
            convert.encode_entry(JournalEntry(event=event))
        ).version
        for event in (Tokens(position=0, tokens=(token,)), Correction(position=0))
    }
    assert versions == {"Tokens": 1, "Correction": 2}


def test_unset_fields_mean_what_the_protos_say() -> None:
    assert convert.sampling_from_pb(common_pb2.SamplingParams()) == SamplingParams()
    assert convert.speculation_from_pb(common_pb2.SpeculationParams()) == SpeculationParams()
    job = convert.job_from_pb(drafter_pb2.GenerateJob(prompt="p"))
    assert job == GenerateJob(request_id="", model="", prompt="p")
    assert SamplingParams().max_tokens == 256
    assert SpeculationParams().entropy_threshold == 1.5
    assert convert.speculation_from_pb(common_pb2.SpeculationParams()).mode is Mode.EXACT
    unset = drafter_pb2.GenerateEvent(started=drafter_pb2.Started())
    assert convert.event_from_pb(unset) == Started(
        request_id="",
        model="",
        tiers=(),
        fingerprint="",
        exactness=Exactness.DEGRADED,
        prompt_tokens=0,
    )


def test_no_tier_travels_as_none_and_zero_draft_tokens_as_zero() -> None:
    plain = SpeculationParams(ladder=(), max_draft_tokens=0)
    message = convert.speculation_to_pb(plain)
    assert list(message.ladder) == ["none"]
    assert message.HasField("max_draft_tokens")
    assert convert.speculation_from_pb(message) == plain


def test_the_retrieval_plan_goes_with_the_response() -> None:
    event = Failure(reason="CANCELLED", message="no", grpc_code=1)
    for plan in (None, RetrievalPlan.NONE):
        assert convert.response_from_pb(convert.response_to_pb(event, plan)) == (event, plan)


def test_an_error_travels_as_data_and_is_itself_again() -> None:
    error = UnknownModel("no model x", model="x", known="a, b")
    failure = convert.failure_of(error)
    again = convert.error_of(convert.failure_from_pb(convert.failure_to_pb(failure)))
    assert type(again) is UnknownModel
    assert (again.message, again.details) == (error.message, error.details)
    response = convert.verifier_response_to_pb(failure)
    with pytest.raises(UnknownModel, match="no model x"):
        convert.verifier_response_from_pb(response)


def job_of(**fields: Any) -> Callable[[], Any]:
    return lambda: convert.job_from_pb(drafter_pb2.GenerateJob(**fields))


def event_of(**fields: Any) -> Callable[[], Any]:
    return lambda: convert.event_from_pb(drafter_pb2.GenerateEvent(**fields))


def open_of(**fields: Any) -> Callable[[], Any]:
    return lambda: convert.open_from_pb(verifier_pb2.Open(**fields))


def block_of(**fields: Any) -> Callable[[], Any]:
    return lambda: convert.block_from_pb(verifier_pb2.DraftBlock(**fields))


REFUSED: dict[str, tuple[Callable[[], Any], type[HolaError], str]] = {
    "no prompt": (job_of(), EmptyPrompt, "prompt"),
    "two prompts": (job_of(prompt="p", prompt_token_ids=[1]), InvalidRequest, "prompt_token_ids"),
    "no message": (
        lambda: convert.request_from_pb(router_pb2.RouterServiceGenerateRequest()),
        EmptyPrompt,
        "prompt",
    ),
    "prompt and messages": (
        lambda: convert.request_from_pb(
            router_pb2.RouterServiceGenerateRequest(
                prompt="p", messages=[router_pb2.ChatMessage(role="user", content="c")]
            )
        ),
        InvalidRequest,
        "messages",
    ),
    "stop string that is not UTF-8": (
        job_of(prompt="p", sampling=common_pb2.SamplingParams(stop=[b"a", b"\xff\xfe"])),
        InvalidSampling,
        "stop[1]",
    ),
    "mode of the future": (
        job_of(prompt="p", speculation=common_pb2.SpeculationParams(mode=7)),
        InvalidRequest,
        "mode",
    ),
    "none beside a tier": (
        job_of(prompt="p", speculation=common_pb2.SpeculationParams(ladder=["none", "draft"])),
        InvalidRequest,
        "ladder",
    ),
    "session without id": (open_of(prompt_token_ids=[1]), InvalidRequest, "session_id"),
    "session without prompt": (open_of(session_id="s"), EmptyPrompt, "prompt_token_ids"),
    "too long a block": (block_of(token_ids=range(65)), InvalidRequest, "token_ids"),
    "more committed than there": (
        block_of(token_ids=[1], committed_tokens=2),
        InvalidRequest,
        "committed_tokens",
    ),
    "empty request": (
        lambda: convert.verifier_request_from_pb(verifier_pb2.VerifyRequest()),
        InvalidRequest,
        "message",
    ),
    "empty response": (
        lambda: convert.verifier_response_from_pb(verifier_pb2.VerifyResponse()),
        ProtocolViolation,
        "message",
    ),
    "verdict without token": (
        lambda: convert.verdict_from_pb(verifier_pb2.Verdict(round=1)),
        ProtocolViolation,
        "token_id",
    ),
    "empty event": (event_of(), ProtocolViolation, "event"),
    "no tokens": (event_of(tokens=drafter_pb2.Tokens()), ProtocolViolation, "tokens"),
    "no outcome": (
        event_of(tokens=drafter_pb2.Tokens(tokens=[common_pb2.TokenEvent()])),
        ProtocolViolation,
        "outcome",
    ),
    "no finish reason": (
        event_of(finished=common_pb2.Summary()),
        ProtocolViolation,
        "finish_reason",
    ),
    "exactness of the future": (
        event_of(started=drafter_pb2.Started(exactness=9)),
        ProtocolViolation,
        "exactness",
    ),
    "failure that is none": (
        event_of(failed=drafter_pb2.Failure(reason="X")),
        ProtocolViolation,
        "grpc_code",
    ),
    "plan of the future": (
        lambda: convert.response_from_pb(
            router_pb2.RouterServiceGenerateResponse(retrieval_plan=9)
        ),
        ProtocolViolation,
        "retrieval_plan",
    ),
    "negative top_k": (
        lambda: convert.sampling_to_pb(SamplingParams(top_k=-1)),
        InvalidSampling,
        "top_k",
    ),
    "seed beyond 64 bits": (
        lambda: convert.sampling_to_pb(SamplingParams(seed=2**64)),
        InvalidSampling,
        "seed",
    ),
    "lone surrogate in a stop string": (
        lambda: convert.sampling_to_pb(SamplingParams(stop=("\ud800",))),
        InvalidSampling,
        "stop[0]",
    ),
    "lone surrogate in a prompt": (
        lambda: convert.request_to_pb(GenerateRequest(prompt="\udfff")),
        InvalidRequest,
        "prompt",
    ),
    "token id beyond 32 bits": (
        lambda: convert.block_to_pb(DraftBlock(round=1, base_position=0, tokens=(2**32,))),
        InvalidRequest,
        "token_ids",
    ),
    "tier called none": (
        lambda: convert.speculation_to_pb(SpeculationParams(ladder=("none",))),
        InvalidRequest,
        "ladder",
    ),
    "event of no tokens": (
        lambda: convert.event_to_pb(Tokens(position=0, tokens=())),
        ProtocolViolation,
        "tokens",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused_by_field(case: str) -> None:
    action, kind, field = REFUSED[case]
    with pytest.raises(HolaError) as caught:
        action()
    assert type(caught.value) is kind
    assert caught.value.details["field"] == field
    assert field in caught.value.message
