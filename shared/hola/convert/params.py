"""What a caller asks for: sampling and speculation parameters, messages, jobs, router requests."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from hola.convert.fields import build, enum_from_pb, text_from_bytes, text_to_bytes
from hola.convert.plan import plan_from_pb, plan_to_pb, retrieval_from_pb, retrieval_to_pb
from hola.errors import EmptyPrompt, InvalidRequest, InvalidSampling
from hola.types import (
    DEFAULT_ENTROPY_THRESHOLD,
    DEFAULT_MAX_TOKENS,
    DEFAULT_TENANT,
    ChatMessage,
    GenerateJob,
    GenerateRequest,
    Mode,
    Outage,
    RetrievalParams,
    SamplingParams,
    SpeculationParams,
)
from hola.v1 import common_pb2, drafter_pb2, retrieval_pb2, router_pb2

NO_LADDER = "none"


def sampling_to_pb(params: SamplingParams) -> common_pb2.SamplingParams:
    """Raises InvalidSampling when a value does not fit its wire type."""
    stop = [
        text_to_bytes(text, f"stop[{index}]", InvalidSampling)
        for index, text in enumerate(params.stop)
    ]
    return build(
        common_pb2.SamplingParams,
        InvalidSampling,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        seed=params.seed,
        max_tokens=params.max_tokens,
        stop=stop,
        stop_token_ids=params.stop_token_ids,
        logprobs=params.logprobs,
    )


def sampling_from_pb(message: common_pb2.SamplingParams) -> SamplingParams:
    """Unset max_tokens is 256, unset top_p is 1. Raises InvalidSampling on invalid UTF-8."""
    return SamplingParams(
        temperature=message.temperature,
        top_k=message.top_k,
        top_p=message.top_p or 1.0,
        min_p=message.min_p,
        seed=message.seed,
        max_tokens=message.max_tokens or DEFAULT_MAX_TOKENS,
        stop=tuple(
            text_from_bytes(raw, f"stop[{index}]", InvalidSampling)
            for index, raw in enumerate(message.stop)
        ),
        stop_token_ids=tuple(message.stop_token_ids),
        logprobs=message.logprobs,
    )


def speculation_to_pb(params: SpeculationParams) -> common_pb2.SpeculationParams:
    """The empty ladder travels as ["none"], because unset means every tier.

    Raises InvalidRequest when a value does not fit its wire type or a tier is called "none".
    """
    ladder = params.ladder
    if ladder is not None and NO_LADDER in ladder:
        raise InvalidRequest(f'ladder: "{NO_LADDER}" is not a tier; use ()', field="ladder")
    return build(
        common_pb2.SpeculationParams,
        InvalidRequest,
        mode=params.mode,
        max_draft_tokens=params.max_draft_tokens,
        entropy_threshold=params.entropy_threshold,
        ladder=(NO_LADDER,) if ladder == () else ladder,
        outage=params.outage,
    )


def speculation_from_pb(message: common_pb2.SpeculationParams) -> SpeculationParams:
    """Unset mode is EXACT, unset threshold 1.5, ladder [] is every tier and ["none"] is ().

    Raises InvalidRequest on an unknown mode and on "none" beside other tiers.
    """
    ladder: tuple[str, ...] | None = tuple(message.ladder) or None
    if ladder == (NO_LADDER,):
        ladder = ()
    elif ladder is not None and NO_LADDER in ladder:
        raise InvalidRequest(f'ladder: "{NO_LADDER}" goes with no other tier', field="ladder")
    has_limit = message.HasField("max_draft_tokens")
    return SpeculationParams(
        mode=enum_from_pb(Mode, message.mode, "mode", InvalidRequest, unset=Mode.EXACT),
        max_draft_tokens=message.max_draft_tokens if has_limit else None,
        entropy_threshold=message.entropy_threshold or DEFAULT_ENTROPY_THRESHOLD,
        ladder=ladder,
        outage=enum_from_pb(Outage, message.outage, "outage", InvalidRequest, unset=Outage.WAIT),
    )


def chat_message_to_pb(message: ChatMessage) -> router_pb2.ChatMessage:
    """Raises InvalidRequest on text that is not valid Unicode."""
    return build(router_pb2.ChatMessage, InvalidRequest, role=message.role, content=message.content)


def chat_message_from_pb(message: router_pb2.ChatMessage) -> ChatMessage:
    """Roles are checked where the chat template is rendered, for both wirings."""
    return ChatMessage(role=message.role, content=message.content)


def job_to_pb(job: GenerateJob) -> drafter_pb2.GenerateJob:
    """Raises InvalidRequest or InvalidSampling when a value does not fit its wire type."""
    return build(
        drafter_pb2.GenerateJob,
        InvalidRequest,
        request_id=job.request_id,
        model=job.model,
        prompt=job.prompt,
        prompt_token_ids=job.prompt_token_ids,
        sampling=sampling_to_pb(job.sampling),
        speculation=speculation_to_pb(job.speculation),
        accepted_unix_ns=job.accepted_unix_ns,
        deadline_unix_ns=job.deadline_unix_ns,
        tenant=job.tenant,
        request_digest=job.request_digest,
        plan=None if job.plan is None else plan_to_pb(job.plan),
        lookup_texts=job.lookup_texts,
    )


def job_from_pb(message: drafter_pb2.GenerateJob) -> GenerateJob:
    """request_id and model stay empty when unset: the server that takes the call fills them in.

    Raises EmptyPrompt on neither prompt nor token ids, InvalidRequest on both, and as
    `sampling_from_pb` and `speculation_from_pb` do.
    """
    tokens = tuple(message.prompt_token_ids)
    _check_one(bool(message.prompt), bool(tokens), "prompt_token_ids")
    return GenerateJob(
        request_id=message.request_id,
        model=message.model,
        prompt=message.prompt,
        prompt_token_ids=tokens or None,
        sampling=sampling_from_pb(message.sampling),
        speculation=speculation_from_pb(message.speculation),
        accepted_unix_ns=message.accepted_unix_ns,
        deadline_unix_ns=message.deadline_unix_ns,
        tenant=message.tenant or DEFAULT_TENANT,
        request_digest=message.request_digest,
        plan=plan_from_pb(message.plan, InvalidRequest) if message.HasField("plan") else None,
        lookup_texts=tuple(message.lookup_texts),
    )


def request_to_pb(request: GenerateRequest) -> router_pb2.RouterServiceGenerateRequest:
    """Raises InvalidRequest or InvalidSampling when a value does not fit its wire type."""
    retrieval = request.retrieval
    return build(
        router_pb2.RouterServiceGenerateRequest,
        InvalidRequest,
        request_id=request.request_id,
        model=request.model,
        prompt=request.prompt,
        messages=[chat_message_to_pb(message) for message in request.messages],
        sampling=sampling_to_pb(request.sampling),
        speculation=speculation_to_pb(request.speculation),
        idempotency_key=request.idempotency_key,
        # Unset where nothing is asked: the digest of such a request is that of older versions.
        retrieval=None if retrieval == RetrievalParams() else retrieval_to_pb(retrieval),
    )


def request_from_pb(message: router_pb2.RouterServiceGenerateRequest) -> GenerateRequest:
    """Raises EmptyPrompt on neither prompt nor messages, InvalidRequest on both, and as
    `sampling_from_pb` and `speculation_from_pb` do."""
    _check_one(bool(message.prompt), bool(message.messages), "messages")
    return GenerateRequest(
        prompt=message.prompt,
        messages=tuple(chat_message_from_pb(each) for each in message.messages),
        request_id=message.request_id,
        model=message.model,
        sampling=sampling_from_pb(message.sampling),
        speculation=speculation_from_pb(message.speculation),
        idempotency_key=message.idempotency_key,
        retrieval=retrieval_from_pb(message.retrieval),
    )


def plan_request_to_pb(request: GenerateRequest) -> retrieval_pb2.RetrievalServicePlanRequest:
    """Family, messages, retrieval and room for the answer of a request; the rest is left out.

    Raises InvalidRequest when a value does not fit its wire type.
    """
    return build(
        retrieval_pb2.RetrievalServicePlanRequest,
        InvalidRequest,
        model=request.model,
        messages=[chat_message_to_pb(message) for message in request.messages],
        retrieval=retrieval_to_pb(request.retrieval),
        max_tokens=request.sampling.max_tokens,
    )


def plan_request_from_pb(message: retrieval_pb2.RetrievalServicePlanRequest) -> GenerateRequest:
    """A request with nothing else asked. Raises EmptyPrompt without messages, InvalidRequest."""
    _check_one(False, bool(message.messages), "messages")
    return GenerateRequest(
        messages=tuple(chat_message_from_pb(each) for each in message.messages),
        model=message.model,
        sampling=SamplingParams(max_tokens=message.max_tokens or DEFAULT_MAX_TOKENS),
        retrieval=retrieval_from_pb(message.retrieval),
    )


def request_digest(request: GenerateRequest) -> str:
    """Hex sha256 of all that is asked: equal for two calls that must get the same stream.

    Raises InvalidRequest or InvalidSampling when a value does not fit its wire type.
    """
    asked = request_to_pb(replace(request, request_id="", idempotency_key=""))
    return hashlib.sha256(asked.SerializeToString(deterministic=True)).hexdigest()


def _check_one(has_prompt: bool, has_other: bool, other: str) -> None:
    """Exactly one of prompt and the other form. An empty prompt looks like an unset one."""
    if has_prompt and has_other:
        raise InvalidRequest(f"set prompt or {other}, not both", field=other)
    if not has_prompt and not has_other:
        raise EmptyPrompt(f"prompt: empty; set prompt or {other}", field="prompt")
