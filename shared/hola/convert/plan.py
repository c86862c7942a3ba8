"""Retrieval's messages: what a client asks, and the plan that comes back."""

from __future__ import annotations

from hola.convert.fields import build, enum_from_pb
from hola.enums import RetrievalMode, RetrievalPlan, StoreOutage
from hola.errors import HolaError, InvalidRequest, ProtocolViolation
from hola.plan import Citation, DepthWeight, Plan, RetrievalParams
from hola.v1 import plan_pb2


def retrieval_to_pb(params: RetrievalParams) -> plan_pb2.RetrievalParams:
    """Raises InvalidRequest when a value does not fit its wire type."""
    return build(
        plan_pb2.RetrievalParams,
        InvalidRequest,
        mode=params.mode,
        collections=params.collections,
        max_passage_tokens=params.max_passage_tokens,
        latency_target_ms=params.latency_target_ms,
        store_outage=params.store_outage,
    )


def retrieval_from_pb(message: plan_pb2.RetrievalParams) -> RetrievalParams:
    """An unset mode stays None. Raises InvalidRequest on an unknown mode or outage."""
    mode = None
    if message.mode:
        mode = enum_from_pb(RetrievalMode, message.mode, "mode", InvalidRequest)
    return RetrievalParams(
        mode=mode,
        collections=tuple(message.collections),
        max_passage_tokens=message.max_passage_tokens,
        latency_target_ms=message.latency_target_ms,
        store_outage=enum_from_pb(
            StoreOutage,
            message.store_outage,
            "store_outage",
            InvalidRequest,
            unset=StoreOutage.FAIL,
        ),
    )


def plan_to_pb(plan: Plan) -> plan_pb2.Plan:
    """Raises ProtocolViolation when a value does not fit its wire type."""
    return build(
        plan_pb2.Plan,
        ProtocolViolation,
        depth=plan.depth,
        mode=plan.mode,
        reasons=plan.reasons,
        notes=plan.notes,
        signals=plan.signals,
        judged_by=plan.judged_by,
        weights=[_weight_to_pb(weight) for weight in plan.weights],
        citations=[_citation_to_pb(citation) for citation in plan.citations],
        cuts=[_citation_to_pb(citation) for citation in plan.cuts],
        passage_tokens=plan.passage_tokens,
        token_budget=plan.token_budget,
        prefill_ms_per_token=plan.prefill_ms_per_token,
        search_ms=plan.search_ms,
        gate_ms=plan.gate_ms,
    )


def plan_from_pb(message: plan_pb2.Plan, error: type[HolaError] = ProtocolViolation) -> Plan:
    """Raises `error` on an unset or unknown depth or mode."""
    return Plan(
        depth=enum_from_pb(RetrievalPlan, message.depth, "plan.depth", error),
        mode=enum_from_pb(RetrievalMode, message.mode, "plan.mode", error),
        reasons=tuple(message.reasons),
        notes=tuple(message.notes),
        signals=dict(message.signals),
        judged_by=tuple(message.judged_by),
        weights=tuple(_weight_from_pb(weight, error) for weight in message.weights),
        citations=tuple(_citation_from_pb(citation) for citation in message.citations),
        cuts=tuple(_citation_from_pb(citation) for citation in message.cuts),
        passage_tokens=message.passage_tokens,
        token_budget=message.token_budget,
        prefill_ms_per_token=message.prefill_ms_per_token,
        search_ms=message.search_ms,
        gate_ms=message.gate_ms,
    )


def _weight_to_pb(weight: DepthWeight) -> plan_pb2.DepthWeight:
    return build(
        plan_pb2.DepthWeight,
        ProtocolViolation,
        depth=weight.depth,
        gain=weight.gain,
        helps=weight.helps,
        cost_ms=weight.cost_ms,
        net=weight.net,
    )


def _weight_from_pb(message: plan_pb2.DepthWeight, error: type[HolaError]) -> DepthWeight:
    return DepthWeight(
        depth=enum_from_pb(RetrievalPlan, message.depth, "plan.weights.depth", error),
        gain=message.gain,
        helps=message.helps,
        cost_ms=message.cost_ms,
        net=message.net,
    )


def _citation_to_pb(citation: Citation) -> plan_pb2.Citation:
    return build(
        plan_pb2.Citation,
        ProtocolViolation,
        number=citation.number,
        collection=citation.collection,
        source=citation.source,
        title=citation.title,
        heading=citation.heading,
        page=citation.page,
        chunk_id=citation.chunk_id,
        ranges=[
            build(plan_pb2.CharRange, ProtocolViolation, begin=begin, end=end)
            for begin, end in citation.ranges
        ],
        text=citation.text,
        tokens=citation.tokens,
        score=citation.score,
        bm25=citation.bm25,
        dense=citation.dense,
        cut=citation.cut,
    )


def _citation_from_pb(message: plan_pb2.Citation) -> Citation:
    return Citation(
        number=message.number,
        collection=message.collection,
        source=message.source,
        title=message.title,
        heading=message.heading,
        page=message.page,
        chunk_id=message.chunk_id,
        ranges=tuple((each.begin, each.end) for each in message.ranges),
        text=message.text,
        tokens=message.tokens,
        score=message.score,
        bm25=message.bm25 if message.HasField("bm25") else None,
        dense=message.dense if message.HasField("dense") else None,
        cut=message.cut,
    )
