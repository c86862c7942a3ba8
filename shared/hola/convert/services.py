"""What services say about themselves, and the router's response with its retrieval plan."""

from __future__ import annotations

from hola.convert.events import event_from_pb, event_to_pb, exactness_from_pb
from hola.convert.fields import build, enum_from_pb
from hola.errors import ProtocolViolation
from hola.types import (
    DrafterInfo,
    GenerateEvent,
    ModelInfo,
    RetrievalPlan,
    RouterInfo,
    VerifierInfo,
)
from hola.v1 import drafter_pb2, router_pb2, verifier_pb2


def response_to_pb(
    event: GenerateEvent, plan: RetrievalPlan | None = None
) -> router_pb2.RouterServiceGenerateResponse:
    """`plan` goes with the first event only. Raises ProtocolViolation as `event_to_pb` does."""
    return build(
        router_pb2.RouterServiceGenerateResponse,
        ProtocolViolation,
        event=event_to_pb(event),
        retrieval_plan=plan,
    )


def response_from_pb(
    message: router_pb2.RouterServiceGenerateResponse,
) -> tuple[GenerateEvent, RetrievalPlan | None]:
    """The event, and the plan where it is set. Raises ProtocolViolation on an unknown plan."""
    value = message.retrieval_plan
    if value == 0:
        return event_from_pb(message.event), None
    plan = enum_from_pb(RetrievalPlan, value, "retrieval_plan", ProtocolViolation)
    return event_from_pb(message.event), plan


def verifier_info_to_pb(info: VerifierInfo) -> verifier_pb2.VerifierServiceInfoResponse:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    return build(
        verifier_pb2.VerifierServiceInfoResponse,
        ProtocolViolation,
        version=info.version,
        model=info.model,
        tokenizer_fingerprint=info.tokenizer_fingerprint,
        artifact_digest=info.artifact_digest,
        fingerprint=info.fingerprint,
        exactness=info.exactness,
        context_length=info.context_length,
        active_sessions=info.active_sessions,
        queue_depth=info.queue_depth,
        kv_bytes=info.kv_bytes,
        kv_budget_bytes=info.kv_budget_bytes,
        draining=info.draining,
        prefill_ns_per_token=info.prefill_ns_per_token,
    )


def verifier_info_from_pb(message: verifier_pb2.VerifierServiceInfoResponse) -> VerifierInfo:
    """Raises ProtocolViolation on an unknown exactness."""
    return VerifierInfo(
        version=message.version,
        model=message.model,
        tokenizer_fingerprint=message.tokenizer_fingerprint,
        artifact_digest=message.artifact_digest,
        fingerprint=message.fingerprint,
        exactness=exactness_from_pb(message.exactness),
        context_length=message.context_length,
        active_sessions=message.active_sessions,
        queue_depth=message.queue_depth,
        kv_bytes=message.kv_bytes,
        kv_budget_bytes=message.kv_budget_bytes,
        draining=message.draining,
        prefill_ns_per_token=message.prefill_ns_per_token,
    )


def drafter_info_to_pb(info: DrafterInfo) -> drafter_pb2.DrafterServiceInfoResponse:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    return build(
        drafter_pb2.DrafterServiceInfoResponse,
        ProtocolViolation,
        version=info.version,
        model=info.model,
        tiers=info.tiers,
        tokenizer_fingerprint=info.tokenizer_fingerprint,
        verifier=info.verifier,
        active_requests=info.active_requests,
    )


def drafter_info_from_pb(message: drafter_pb2.DrafterServiceInfoResponse) -> DrafterInfo:
    """Cannot fail: every field may be unset."""
    return DrafterInfo(
        version=message.version,
        model=message.model,
        tiers=tuple(message.tiers),
        tokenizer_fingerprint=message.tokenizer_fingerprint,
        verifier=message.verifier,
        active_requests=message.active_requests,
    )


def router_info_to_pb(info: RouterInfo) -> router_pb2.RouterServiceInfoResponse:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    models = [
        build(
            router_pb2.ModelInfo,
            ProtocolViolation,
            name=model.name,
            tiers=model.tiers,
            context_length=model.context_length,
        )
        for model in info.models
    ]
    return build(
        router_pb2.RouterServiceInfoResponse,
        ProtocolViolation,
        version=info.version,
        models=models,
        default_model=info.default_model,
        active_requests=info.active_requests,
        queue_depth=info.queue_depth,
        queue_limit=info.queue_limit,
        tenant_requests=info.tenant_requests,
        tenant_limit=info.tenant_limit,
        tenant_rate_per_s=info.tenant_rate_per_s,
        tenant_burst=info.tenant_burst,
    )


def router_info_from_pb(message: router_pb2.RouterServiceInfoResponse) -> RouterInfo:
    """Cannot fail: every field may be unset."""
    return RouterInfo(
        version=message.version,
        models=tuple(
            ModelInfo(
                name=model.name, tiers=tuple(model.tiers), context_length=model.context_length
            )
            for model in message.models
        ),
        default_model=message.default_model,
        active_requests=message.active_requests,
        queue_depth=message.queue_depth,
        queue_limit=message.queue_limit,
        tenant_requests=message.tenant_requests,
        tenant_limit=message.tenant_limit,
        tenant_rate_per_s=message.tenant_rate_per_s,
        tenant_burst=message.tenant_burst,
    )
