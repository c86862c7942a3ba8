"""Hypothesis strategies for every domain type that travels."""

from __future__ import annotations

from hypothesis import strategies as st

from hola.checking import Checked, CheckRequest
from hola.plan import Citation, DepthWeight, Plan, RetrievalParams
from hola.types import (
    CancelSession,
    ChatMessage,
    Correction,
    Done,
    DraftBlock,
    DrafterInfo,
    Exactness,
    Failure,
    FinishReason,
    GenerateJob,
    GenerateRequest,
    JournalEntry,
    Mode,
    ModelInfo,
    Open,
    Opened,
    Outcome,
    RetrievalMode,
    RetrievalPlan,
    RouterInfo,
    SamplingParams,
    SpeculationParams,
    Started,
    StoreOutage,
    Summary,
    TierCounts,
    Timings,
    TokenEvent,
    Tokens,
    Verdict,
    VerifierInfo,
)

uint32 = st.integers(0, 2**32 - 1)
uint64 = st.integers(0, 2**64 - 1)
text = st.text(max_size=12)
some_text = st.text(min_size=1, max_size=12)
names = st.lists(some_text, max_size=3).map(tuple)
token_ids = st.lists(uint32, max_size=6).map(tuple)
some_token_ids = st.lists(uint32, min_size=1, max_size=6).map(tuple)
float32 = st.floats(width=32, allow_nan=False)
exactness = st.sampled_from(Exactness)

sampling = st.builds(
    SamplingParams,
    temperature=st.floats(allow_nan=False),
    top_k=uint32,
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=st.floats(0, 1),
    seed=uint64,
    max_tokens=st.integers(1, 2**32 - 1),
    stop=names,
    stop_token_ids=token_ids,
    logprobs=st.booleans(),
)
speculation = st.builds(
    SpeculationParams,
    mode=st.sampled_from(Mode),
    max_draft_tokens=st.none() | uint32,
    entropy_threshold=st.floats(0, 100, exclude_min=True),
    ladder=st.none() | st.lists(some_text.filter(lambda name: name != "none")).map(tuple),
)
real = st.floats(allow_nan=False)
retrievals = st.builds(
    RetrievalParams,
    mode=st.none() | st.sampled_from(RetrievalMode),
    collections=names,
    max_passage_tokens=uint32,
    latency_target_ms=uint32,
    store_outage=st.sampled_from(StoreOutage),
)
citations = st.builds(
    Citation,
    number=uint32,
    **dict.fromkeys(("collection", "source", "title", "heading", "chunk_id", "text", "cut"), text),
    page=uint32,
    ranges=st.lists(st.tuples(uint32, uint32), max_size=3).map(tuple),
    tokens=uint32,
    score=real,
    bm25=st.none() | real,
    dense=st.none() | real,
)
weights = st.builds(
    DepthWeight,
    depth=st.sampled_from(RetrievalPlan),
    **dict.fromkeys(("gain", "helps", "cost_ms", "net"), real),
)
plans = st.builds(
    Plan,
    depth=st.sampled_from(RetrievalPlan),
    mode=st.sampled_from(RetrievalMode),
    **dict.fromkeys(("reasons", "notes", "judged_by"), names),
    signals=st.dictionaries(text, real, max_size=3),
    weights=st.lists(weights, max_size=2).map(tuple),
    **dict.fromkeys(("citations", "cuts"), st.lists(citations, max_size=2).map(tuple)),
    **dict.fromkeys(("passage_tokens", "token_budget"), uint32),
    **dict.fromkeys(("prefill_ms_per_token", "search_ms", "gate_ms"), real),
)
jobs = st.builds(
    GenerateJob,
    request_id=text,
    model=text,
    prompt=some_text,
    sampling=sampling,
    speculation=speculation,
    accepted_unix_ns=uint64,
    deadline_unix_ns=uint64,
    request_digest=text,
    plan=st.none() | plans,
    lookup_texts=names,
) | st.builds(
    GenerateJob, request_id=text, model=text, prompt=st.just(""), prompt_token_ids=some_token_ids
)
messages = st.builds(ChatMessage, role=text, content=text)
requests = st.builds(
    GenerateRequest,
    prompt=some_text,
    messages=st.just(()),
    request_id=text,
    model=text,
    sampling=sampling,
    speculation=speculation,
    retrieval=retrievals,
) | st.builds(
    GenerateRequest,
    prompt=st.just(""),
    messages=st.lists(messages, min_size=1, max_size=3).map(tuple),
)

token_events = st.builds(
    TokenEvent,
    token=uint32,
    text=text,
    tier=uint32,
    outcome=st.sampled_from(Outcome),
    logprob=st.none() | float32,
)
tokens = st.builds(
    Tokens,
    position=uint32,
    tokens=st.lists(token_events, min_size=1, max_size=4).map(tuple),
)
started = st.builds(
    Started,
    request_id=text,
    model=text,
    tiers=names,
    fingerprint=text,
    exactness=exactness,
    prompt_tokens=uint32,
    plan=st.none() | plans,
)
timings = st.builds(
    Timings,
    **dict.fromkeys(("queue_ns", "prefill_ns", "draft_ns", "verify_ns"), uint64),
    **dict.fromkeys(("verify_queue_ns", "network_ns", "other_ns", "total_ns"), uint64),
)
tier_counts = st.builds(TierCounts, tier=text, proposed_tokens=uint32, accepted_tokens=uint32)
summaries = st.builds(
    Summary,
    finish_reason=st.sampled_from(FinishReason),
    prompt_tokens=uint32,
    completion_tokens=uint32,
    **dict.fromkeys(("accepted_tokens", "corrected_tokens", "bonus_tokens"), uint32),
    **dict.fromkeys(("plain_tokens", "unverified_tokens", "rounds"), uint32),
    tiers=st.lists(tier_counts, max_size=3).map(tuple),
    timings=timings,
    exactness=exactness,
    agreed_tokens=uint32,
    reconnects=uint32,
)
failures = st.builds(
    Failure,
    reason=text,
    message=text,
    grpc_code=st.integers(1, 16),
    details=st.dictionaries(text, text, max_size=3),
)
corrections = st.builds(Correction, position=uint32, fingerprint=text)
events = started | tokens | corrections | summaries | failures
entries = st.builds(JournalEntry, event=events, writer=text)

opens = st.builds(
    Open,
    session_id=some_text,
    model=text,
    tokenizer_fingerprint=text,
    prompt=some_token_ids,
    committed=token_ids,
    sampling=sampling,
    required_fingerprint=text,
    allow_degraded=st.booleans(),
)
blocks = st.lists(uint32, max_size=64).flatmap(
    lambda ids: st.builds(
        DraftBlock,
        round=uint32,
        base_position=uint32,
        tokens=st.just(tuple(ids)),
        committed_tokens=st.integers(0, len(ids)),
    )
)
verifier_requests = opens | blocks | st.just(CancelSession())
opened = st.builds(
    Opened,
    fingerprint=text,
    exactness=exactness,
    context_length=uint32,
    eos_token_ids=token_ids,
    prefill_ns=uint64,
    queue_ns=uint64,
    cached_tokens=uint32,
)
verdicts = st.builds(
    Verdict,
    round=uint32,
    accepted=uint32,
    token=uint32,
    finished=st.booleans(),
    compute_ns=uint64,
    queue_ns=uint64,
    logprobs=st.lists(float32, max_size=3).map(tuple),
    agreed_tokens=uint32,
) | st.builds(Verdict, round=uint32, accepted=uint32, token=st.none(), finished=st.just(True))
verifier_responses = opened | verdicts | st.builds(Done, rounds=uint32)

verifier_infos = st.builds(
    VerifierInfo,
    **dict.fromkeys(("version", "model", "tokenizer_fingerprint"), text),
    **dict.fromkeys(("artifact_digest", "fingerprint"), text),
    exactness=exactness,
    **dict.fromkeys(("context_length", "active_sessions", "queue_depth"), uint32),
    kv_bytes=uint64,
    kv_budget_bytes=uint64,
    prefill_ns_per_token=real,
)
check_requests = st.builds(
    CheckRequest,
    **dict.fromkeys(("model", "tokenizer_fingerprint"), text),
    **dict.fromkeys(("prompt", "draft"), token_ids),
    tenant=some_text,
)
checked = st.builds(
    Checked,
    signals=st.dictionaries(text, real, max_size=3),
    compute_ns=uint64,
    queue_ns=uint64,
    prefill_ns_per_token=real,
)
drafter_infos = st.builds(
    DrafterInfo,
    **dict.fromkeys(("version", "model", "tokenizer_fingerprint", "verifier"), text),
    tiers=names,
    active_requests=uint32,
)
router_infos = st.builds(
    RouterInfo,
    version=text,
    models=st.lists(
        st.builds(ModelInfo, name=text, tiers=names, context_length=uint32), max_size=3
    ).map(tuple),
    default_model=text,
    **dict.fromkeys(("active_requests", "queue_depth", "queue_limit"), uint32),
    **dict.fromkeys(("tenant_requests", "tenant_limit", "tenant_burst"), uint32),
    tenant_rate_per_s=st.floats(0, 1e9),
)
