"""The events of a stream, which are also the journal's: started, tokens, summary, failure."""

from __future__ import annotations

from typing import assert_never

from hola.convert.fields import build, enum_from_pb
from hola.convert.plan import plan_from_pb, plan_to_pb
from hola.errors import HolaError, ProtocolViolation, from_reason
from hola.types import (
    Correction,
    Exactness,
    Failure,
    FinishReason,
    GenerateEvent,
    Outcome,
    Started,
    Summary,
    TierCounts,
    Timings,
    TokenEvent,
    Tokens,
)
from hola.v1 import common_pb2, drafter_pb2

MAX_GRPC_CODE = 16


def event_to_pb(event: GenerateEvent) -> drafter_pb2.GenerateEvent:
    """Raises ProtocolViolation naming the field that does not fit its wire type."""
    match event:
        case Tokens():
            return drafter_pb2.GenerateEvent(tokens=_tokens_to_pb(event))
        case Started():
            return drafter_pb2.GenerateEvent(started=_started_to_pb(event))
        case Summary():
            return drafter_pb2.GenerateEvent(finished=summary_to_pb(event))
        case Failure():
            return drafter_pb2.GenerateEvent(failed=failure_to_pb(event))
        case Correction():
            return drafter_pb2.GenerateEvent(corrected=_correction_to_pb(event))
        case _:
            assert_never(event)


def event_from_pb(message: drafter_pb2.GenerateEvent) -> GenerateEvent:
    """Raises ProtocolViolation on an empty event and on anything the contract rules out in one."""
    match message.WhichOneof("event"):
        case "tokens":
            return _tokens_from_pb(message.tokens)
        case "started":
            return _started_from_pb(message.started)
        case "finished":
            return summary_from_pb(message.finished)
        case "failed":
            return failure_from_pb(message.failed)
        case "corrected":
            corrected = message.corrected
            return Correction(position=corrected.position, fingerprint=corrected.fingerprint)
        case _:
            raise ProtocolViolation("event: nothing is set in it", field="event")


def token_to_pb(token: TokenEvent) -> common_pb2.TokenEvent:
    """Raises ProtocolViolation naming the field that does not fit its wire type."""
    return build(
        common_pb2.TokenEvent,
        ProtocolViolation,
        token_id=token.token,
        text=token.text,
        tier=token.tier,
        outcome=token.outcome,
        logprob=token.logprob,
    )


def token_from_pb(message: common_pb2.TokenEvent) -> TokenEvent:
    """`logprob` has float32 precision. Raises ProtocolViolation on an unknown outcome."""
    return TokenEvent(
        token=message.token_id,
        text=message.text,
        tier=message.tier,
        outcome=enum_from_pb(Outcome, message.outcome, "outcome", ProtocolViolation),
        logprob=message.logprob if message.HasField("logprob") else None,
    )


def _tokens_to_pb(tokens: Tokens) -> drafter_pb2.Tokens:
    if not tokens.tokens:
        # Its journal id would be the next token's, which the writer's own next entry then hits.
        raise ProtocolViolation("tokens: an event has one or more", field="tokens")
    return build(
        drafter_pb2.Tokens,
        ProtocolViolation,
        position=tokens.position,
        tokens=[token_to_pb(token) for token in tokens.tokens],
    )


def _tokens_from_pb(message: drafter_pb2.Tokens) -> Tokens:
    if not message.tokens:
        raise ProtocolViolation("tokens: an event has one or more", field="tokens")
    return Tokens(
        position=message.position, tokens=tuple(token_from_pb(token) for token in message.tokens)
    )


def _started_to_pb(started: Started) -> drafter_pb2.Started:
    return build(
        drafter_pb2.Started,
        ProtocolViolation,
        request_id=started.request_id,
        model=started.model,
        tiers=started.tiers,
        fingerprint=started.fingerprint,
        exactness=started.exactness,
        prompt_tokens=started.prompt_tokens,
        plan=None if started.plan is None else plan_to_pb(started.plan),
    )


def _started_from_pb(message: drafter_pb2.Started) -> Started:
    return Started(
        request_id=message.request_id,
        model=message.model,
        tiers=tuple(message.tiers),
        fingerprint=message.fingerprint,
        exactness=exactness_from_pb(message.exactness),
        prompt_tokens=message.prompt_tokens,
        plan=plan_from_pb(message.plan) if message.HasField("plan") else None,
    )


def _correction_to_pb(correction: Correction) -> drafter_pb2.Correction:
    return build(
        drafter_pb2.Correction,
        ProtocolViolation,
        position=correction.position,
        fingerprint=correction.fingerprint,
    )


def exactness_from_pb(value: int) -> Exactness:
    """Unset is DEGRADED: what does not claim to be exact is not. Raises ProtocolViolation."""
    return enum_from_pb(Exactness, value, "exactness", ProtocolViolation, unset=Exactness.DEGRADED)


def summary_to_pb(summary: Summary) -> common_pb2.Summary:
    """Raises ProtocolViolation naming the field that does not fit its wire type."""
    return build(
        common_pb2.Summary,
        ProtocolViolation,
        finish_reason=summary.finish_reason,
        prompt_tokens=summary.prompt_tokens,
        completion_tokens=summary.completion_tokens,
        accepted_tokens=summary.accepted_tokens,
        corrected_tokens=summary.corrected_tokens,
        bonus_tokens=summary.bonus_tokens,
        plain_tokens=summary.plain_tokens,
        unverified_tokens=summary.unverified_tokens,
        rounds=summary.rounds,
        tiers=[_tier_to_pb(tier) for tier in summary.tiers],
        timings=_timings_to_pb(summary.timings),
        exactness=summary.exactness,
        agreed_tokens=summary.agreed_tokens,
        reconnects=summary.reconnects,
        corrections=summary.corrections,
    )


def summary_from_pb(message: common_pb2.Summary) -> Summary:
    """Raises ProtocolViolation on an unset or unknown finish reason or an unknown exactness."""
    reason = message.finish_reason
    return Summary(
        finish_reason=enum_from_pb(FinishReason, reason, "finish_reason", ProtocolViolation),
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        accepted_tokens=message.accepted_tokens,
        corrected_tokens=message.corrected_tokens,
        bonus_tokens=message.bonus_tokens,
        plain_tokens=message.plain_tokens,
        unverified_tokens=message.unverified_tokens,
        rounds=message.rounds,
        tiers=tuple(_tier_from_pb(tier) for tier in message.tiers),
        timings=_timings_from_pb(message.timings),
        exactness=exactness_from_pb(message.exactness),
        agreed_tokens=message.agreed_tokens,
        reconnects=message.reconnects,
        corrections=message.corrections,
    )


def _tier_to_pb(tier: TierCounts) -> common_pb2.TierCounts:
    return build(
        common_pb2.TierCounts,
        ProtocolViolation,
        tier=tier.tier,
        proposed_tokens=tier.proposed_tokens,
        accepted_tokens=tier.accepted_tokens,
    )


def _tier_from_pb(message: common_pb2.TierCounts) -> TierCounts:
    return TierCounts(
        tier=message.tier,
        proposed_tokens=message.proposed_tokens,
        accepted_tokens=message.accepted_tokens,
    )


def _timings_to_pb(timings: Timings) -> common_pb2.Timings:
    return build(
        common_pb2.Timings,
        ProtocolViolation,
        queue_ns=timings.queue_ns,
        prefill_ns=timings.prefill_ns,
        draft_ns=timings.draft_ns,
        verify_ns=timings.verify_ns,
        verify_queue_ns=timings.verify_queue_ns,
        network_ns=timings.network_ns,
        other_ns=timings.other_ns,
        total_ns=timings.total_ns,
    )


def _timings_from_pb(message: common_pb2.Timings) -> Timings:
    return Timings(
        queue_ns=message.queue_ns,
        prefill_ns=message.prefill_ns,
        draft_ns=message.draft_ns,
        verify_ns=message.verify_ns,
        verify_queue_ns=message.verify_queue_ns,
        network_ns=message.network_ns,
        other_ns=message.other_ns,
        total_ns=message.total_ns,
    )


def failure_to_pb(failure: Failure) -> drafter_pb2.Failure:
    """Raises ProtocolViolation on a code that is no error's, or a field that does not fit."""
    _check_code(failure.grpc_code, failure.message)
    return build(
        drafter_pb2.Failure,
        ProtocolViolation,
        reason=failure.reason,
        message=failure.message,
        grpc_code=failure.grpc_code,
        details=failure.details,
    )


def failure_from_pb(message: drafter_pb2.Failure) -> Failure:
    """Raises ProtocolViolation on a code that is no error's; the failure's text is kept in it."""
    _check_code(message.grpc_code, message.message)
    return Failure(
        reason=message.reason,
        message=message.message,
        grpc_code=message.grpc_code,
        details=dict(message.details),
    )


def _check_code(code: int, message: str) -> None:
    if not 1 <= code <= MAX_GRPC_CODE:
        text = f"grpc_code: {code} is not in 1 to {MAX_GRPC_CODE} (failure: {message})"
        raise ProtocolViolation(text, field="grpc_code", got=code)


def failure_of(error: HolaError) -> Failure:
    """An error as data, for the last event of a stream."""
    return Failure(
        reason=error.reason,
        message=error.message,
        grpc_code=error.grpc_code,
        details=dict(error.details),
    )


def error_of(failure: Failure) -> HolaError:
    """The error that travelled as data, of its own class again; raise it."""
    return from_reason(failure.reason, failure.message, failure.details)
