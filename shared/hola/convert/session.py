"""The messages of a verifier session: open, draft block, cancel; opened, verdict, done, failed."""

from __future__ import annotations

from typing import assert_never

from hola.checking import Checked, CheckRequest
from hola.convert.events import error_of, exactness_from_pb, failure_from_pb, failure_to_pb
from hola.convert.fields import build
from hola.convert.params import sampling_from_pb, sampling_to_pb
from hola.errors import EmptyPrompt, InvalidRequest, ProtocolViolation
from hola.types import (
    DEFAULT_TENANT,
    MAX_BLOCK_TOKENS,
    CancelSession,
    Done,
    DraftBlock,
    Failure,
    Open,
    Opened,
    Verdict,
    VerifierRequest,
    VerifierResponse,
)
from hola.v1 import verifier_pb2


def verifier_request_to_pb(request: VerifierRequest) -> verifier_pb2.VerifyRequest:
    """Raises InvalidRequest or InvalidSampling when a value does not fit its wire type."""
    match request:
        case DraftBlock():
            return verifier_pb2.VerifyRequest(block=block_to_pb(request))
        case Open():
            return verifier_pb2.VerifyRequest(open=open_to_pb(request))
        case CancelSession():
            return verifier_pb2.VerifyRequest(cancel=verifier_pb2.CancelSession())
        case _:
            assert_never(request)


def verifier_request_from_pb(message: verifier_pb2.VerifyRequest) -> VerifierRequest:
    """Raises InvalidRequest on an empty message, and as the parts' conversions do."""
    match message.WhichOneof("message"):
        case "block":
            return block_from_pb(message.block)
        case "open":
            return open_from_pb(message.open)
        case "cancel":
            return CancelSession()
        case _:
            raise InvalidRequest("message: nothing is set in it", field="message")


def verifier_response_to_pb(response: VerifierResponse | Failure) -> verifier_pb2.VerifyResponse:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    match response:
        case Verdict():
            return verifier_pb2.VerifyResponse(verdict=verdict_to_pb(response))
        case Opened():
            return verifier_pb2.VerifyResponse(opened=opened_to_pb(response))
        case Done():
            done = build(verifier_pb2.Done, ProtocolViolation, rounds=response.rounds)
            return verifier_pb2.VerifyResponse(done=done)
        case Failure():
            return verifier_pb2.VerifyResponse(failed=failure_to_pb(response))
        case _:
            assert_never(response)


def verifier_response_from_pb(message: verifier_pb2.VerifyResponse) -> VerifierResponse:
    """Raises the HolaError that `failed` carries; ProtocolViolation on an impossible message."""
    match message.WhichOneof("message"):
        case "verdict":
            return verdict_from_pb(message.verdict)
        case "opened":
            return opened_from_pb(message.opened)
        case "done":
            return Done(rounds=message.done.rounds)
        case "failed":
            raise error_of(failure_from_pb(message.failed))
        case _:
            raise ProtocolViolation("message: nothing is set in it", field="message")


def open_to_pb(request: Open) -> verifier_pb2.Open:
    """Raises InvalidRequest or InvalidSampling when a value does not fit its wire type."""
    return build(
        verifier_pb2.Open,
        InvalidRequest,
        session_id=request.session_id,
        model=request.model,
        tokenizer_fingerprint=request.tokenizer_fingerprint,
        prompt_token_ids=request.prompt,
        committed_token_ids=request.committed,
        sampling=sampling_to_pb(request.sampling),
        required_fingerprint=request.required_fingerprint,
        allow_degraded=request.allow_degraded,
        tenant=request.tenant,
    )


def open_from_pb(message: verifier_pb2.Open) -> Open:
    """Raises InvalidRequest without a session id, EmptyPrompt without a prompt token."""
    if not message.session_id:
        raise InvalidRequest("session_id: empty", field="session_id")
    if not message.prompt_token_ids:
        raise EmptyPrompt("prompt_token_ids: empty", field="prompt_token_ids")
    return Open(
        session_id=message.session_id,
        model=message.model,
        tokenizer_fingerprint=message.tokenizer_fingerprint,
        prompt=tuple(message.prompt_token_ids),
        committed=tuple(message.committed_token_ids),
        sampling=sampling_from_pb(message.sampling),
        required_fingerprint=message.required_fingerprint,
        allow_degraded=message.allow_degraded,
        tenant=message.tenant or DEFAULT_TENANT,
    )


def opened_to_pb(response: Opened) -> verifier_pb2.Opened:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    return build(
        verifier_pb2.Opened,
        ProtocolViolation,
        fingerprint=response.fingerprint,
        exactness=response.exactness,
        context_length=response.context_length,
        eos_token_ids=response.eos_token_ids,
        prefill_ns=response.prefill_ns,
        queue_ns=response.queue_ns,
        cached_tokens=response.cached_tokens,
        queue_depth=response.queue_depth,
    )


def opened_from_pb(message: verifier_pb2.Opened) -> Opened:
    """Raises ProtocolViolation on an unknown exactness."""
    return Opened(
        fingerprint=message.fingerprint,
        exactness=exactness_from_pb(message.exactness),
        context_length=message.context_length,
        eos_token_ids=tuple(message.eos_token_ids),
        prefill_ns=message.prefill_ns,
        queue_ns=message.queue_ns,
        cached_tokens=message.cached_tokens,
        queue_depth=message.queue_depth,
    )


def block_to_pb(block: DraftBlock) -> verifier_pb2.DraftBlock:
    """Raises InvalidRequest when a value does not fit its wire type."""
    return build(
        verifier_pb2.DraftBlock,
        InvalidRequest,
        round=block.round,
        base_position=block.base_position,
        token_ids=block.tokens,
        committed_tokens=block.committed_tokens,
    )


def block_from_pb(message: verifier_pb2.DraftBlock) -> DraftBlock:
    """Raises InvalidRequest on more than 64 tokens, or more committed tokens than tokens."""
    count = len(message.token_ids)
    if count > MAX_BLOCK_TOKENS:
        text = f"token_ids: {count} draft tokens, at most {MAX_BLOCK_TOKENS} fit a block"
        raise InvalidRequest(text, field="token_ids", got=count, limit=MAX_BLOCK_TOKENS)
    if message.committed_tokens > count:
        text = f"committed_tokens: {message.committed_tokens} of a block of {count}"
        raise InvalidRequest(text, field="committed_tokens", got=message.committed_tokens)
    return DraftBlock(
        round=message.round,
        base_position=message.base_position,
        tokens=tuple(message.token_ids),
        committed_tokens=message.committed_tokens,
    )


def verdict_to_pb(verdict: Verdict) -> verifier_pb2.Verdict:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    return build(
        verifier_pb2.Verdict,
        ProtocolViolation,
        round=verdict.round,
        accepted_tokens=verdict.accepted,
        token_id=verdict.token,
        finished=verdict.finished,
        compute_ns=verdict.compute_ns,
        queue_ns=verdict.queue_ns,
        logprobs=verdict.logprobs,
        agreed_tokens=verdict.agreed_tokens,
        queue_depth=verdict.queue_depth,
    )


def verdict_from_pb(message: verifier_pb2.Verdict) -> Verdict:
    """Raises ProtocolViolation when a verdict that does not end the text has no token."""
    token = message.token_id if message.HasField("token_id") else None
    if token is None and not message.finished:
        raise ProtocolViolation("token_id: unset, yet the text goes on", field="token_id")
    return Verdict(
        round=message.round,
        accepted=message.accepted_tokens,
        token=token,
        finished=message.finished,
        compute_ns=message.compute_ns,
        queue_ns=message.queue_ns,
        logprobs=tuple(message.logprobs),
        agreed_tokens=message.agreed_tokens,
        queue_depth=message.queue_depth,
    )


def check_request_to_pb(request: CheckRequest) -> verifier_pb2.VerifierServiceCheckRequest:
    """Raises InvalidRequest when a value does not fit its wire type."""
    return build(
        verifier_pb2.VerifierServiceCheckRequest,
        InvalidRequest,
        model=request.model,
        tokenizer_fingerprint=request.tokenizer_fingerprint,
        prompt_token_ids=request.prompt,
        draft_token_ids=request.draft,
        tenant=request.tenant,
    )


def check_request_from_pb(message: verifier_pb2.VerifierServiceCheckRequest) -> CheckRequest:
    """Cannot fail: the verifier checks sizes and tokens for both wirings."""
    return CheckRequest(
        model=message.model,
        tokenizer_fingerprint=message.tokenizer_fingerprint,
        prompt=tuple(message.prompt_token_ids),
        draft=tuple(message.draft_token_ids),
        tenant=message.tenant or DEFAULT_TENANT,
    )


def checked_to_pb(checked: Checked) -> verifier_pb2.VerifierServiceCheckResponse:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    return build(
        verifier_pb2.VerifierServiceCheckResponse,
        ProtocolViolation,
        signals=checked.signals,
        compute_ns=checked.compute_ns,
        queue_ns=checked.queue_ns,
        prefill_ns_per_token=checked.prefill_ns_per_token,
    )


def checked_from_pb(message: verifier_pb2.VerifierServiceCheckResponse) -> Checked:
    """Cannot fail: every field may be unset."""
    return Checked(
        signals=dict(message.signals),
        compute_ns=message.compute_ns,
        queue_ns=message.queue_ns,
        prefill_ns_per_token=message.prefill_ns_per_token,
    )
