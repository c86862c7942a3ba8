"""The domain's words as frozen dataclasses: what travels between services, without protobuf."""

from __future__ import annotations

from dataclasses import dataclass, field

from hola.enums import (
    Exactness as Exactness,
    FinishReason as FinishReason,
    Mode as Mode,
    Outage as Outage,
    Outcome as Outcome,
    RetrievalMode as RetrievalMode,
    RetrievalPlan as RetrievalPlan,
    StoreOutage as StoreOutage,
)
from hola.plan import (
    Citation as Citation,
    DepthWeight as DepthWeight,
    Plan as Plan,
    RetrievalParams as RetrievalParams,
)

DEFAULT_MAX_TOKENS = 256
DEFAULT_TENANT = "default"
DEFAULT_ENTROPY_THRESHOLD = 1.5
MAX_BLOCK_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen; the defaults are greedy decoding.

    Ranges are in common.proto and checked by `hola.validate.check_sampling`; top_k 0, top_p 1 and
    min_p 0 mean off.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    max_tokens: int = DEFAULT_MAX_TOKENS
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    logprobs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationParams:
    """How the drafter guesses; never changes the text in Mode.EXACT.

    `max_draft_tokens` None leaves it to pacing, 0 is plain remote decoding. `ladder` None uses
    every tier, () none. `entropy_threshold` is in nats.
    """

    mode: Mode = Mode.EXACT
    max_draft_tokens: int | None = None
    entropy_threshold: float = DEFAULT_ENTROPY_THRESHOLD
    ladder: tuple[str, ...] | None = None
    outage: Outage = Outage.WAIT


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One turn of a conversation; role is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateJob:
    """One prompt, ready for the tokenizer: `prompt` text or, if not None, `prompt_token_ids`.

    Times are Unix nanoseconds; deadline 0 is none. `request_digest` says what the client asked for
    where it came with an idempotency key, `traceparent` which trace it belongs to on the bus.
    `plan` is what was retrieved, None where nothing was asked for; `lookup_texts` are what tier
    "lookup" may copy from besides the prompt.
    """

    request_id: str
    model: str
    prompt: str = ""
    prompt_token_ids: tuple[int, ...] | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    speculation: SpeculationParams = field(default_factory=SpeculationParams)
    accepted_unix_ns: int = 0
    deadline_unix_ns: int = 0
    tenant: str = DEFAULT_TENANT
    request_digest: str = ""
    plan: Plan | None = None
    lookup_texts: tuple[str, ...] = ()
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """What a client asks of a router: a raw `prompt` or, if not empty, `messages`.

    An empty `request_id` lets the router make one, an empty `model` is its default. With an
    `idempotency_key` the same key gives the same stream again.
    """

    prompt: str = ""
    messages: tuple[ChatMessage, ...] = ()
    request_id: str = ""
    model: str = ""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    speculation: SpeculationParams = field(default_factory=SpeculationParams)
    idempotency_key: str = ""
    retrieval: RetrievalParams = field(default_factory=RetrievalParams)


# Verifier session messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Starts or rebuilds a verifier session; fields as in verifier.proto."""

    session_id: str
    model: str
    tokenizer_fingerprint: str
    prompt: tuple[int, ...]
    committed: tuple[int, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    required_fingerprint: str = ""
    allow_degraded: bool = True
    tenant: str = DEFAULT_TENANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The verifier's answer to Open."""

    fingerprint: str
    exactness: Exactness
    context_length: int
    eos_token_ids: tuple[int, ...]
    prefill_ns: int = 0
    queue_ns: int = 0
    cached_tokens: int = 0
    queue_depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftBlock:
    """Draft tokens for output positions from `base_position` on; none is plain decoding.

    In Mode.GATED the first `committed_tokens` of them are already output: scored, not rejected.
    """

    round: int
    base_position: int
    tokens: tuple[int, ...] = ()
    committed_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Length of the accepted prefix of a block, then one token of the target's own.

    `token` is None when an accepted token already ended the text. `logprobs` has one entry per
    token of the verdict, or none.
    """

    round: int
    accepted: int
    token: int | None
    finished: bool = False
    compute_ns: int = 0
    queue_ns: int = 0
    logprobs: tuple[float, ...] = ()
    agreed_tokens: int = 0
    queue_depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelSession:
    """Closes the session and frees its KV cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The session is closed."""

    rounds: int


VerifierRequest = Open | DraftBlock | CancelSession
VerifierResponse = Opened | Verdict | Done


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierInfo:
    """What a verifier runs and how loaded it is; fields as in verifier.proto."""

    version: str
    model: str
    tokenizer_fingerprint: str
    artifact_digest: str
    fingerprint: str
    exactness: Exactness
    context_length: int
    active_sessions: int = 0
    queue_depth: int = 0
    kv_bytes: int = 0
    kv_budget_bytes: int = 0
    draining: bool = False
    prefill_ns_per_token: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierRecord:
    """A verifier in the registry: where drafters reach it, and what it said of itself last."""

    address: str
    info: VerifierInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class DrafterInfo:
    """What a drafter runs; fields as in drafter.proto."""

    version: str
    model: str
    tiers: tuple[str, ...]
    tokenizer_fingerprint: str
    verifier: str
    active_requests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model family that can be asked for; `tiers` is cheapest first, the target last."""

    name: str
    tiers: tuple[str, ...]
    context_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterInfo:
    """What a router offers; fields as in router.proto."""

    version: str
    models: tuple[ModelInfo, ...]
    default_model: str
    active_requests: int = 0
    queue_depth: int = 0
    queue_limit: int = 0
    tenant_requests: int = 0
    tenant_limit: int = 0
    tenant_rate_per_s: float = 0.0
    tenant_burst: int = 0


# Events of a stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """First event; `tiers` is cheapest first, the target last; `plan` is the job's."""

    request_id: str
    model: str
    tiers: tuple[str, ...]
    fingerprint: str
    exactness: Exactness
    prompt_tokens: int
    plan: Plan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """One committed token with its provenance; `tier` indexes Started.tiers."""

    token: int
    text: str
    tier: int
    outcome: Outcome
    logprob: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Committed tokens in order; `position` is the first one's output index, from 0."""

    position: int
    tokens: tuple[TokenEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Tokens before `position` are the target's now; later ones that were sent are void.

    `fingerprint` is that target's, for streams whose Started came before any verifier.
    """

    position: int
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where a request's wall time went, nanoseconds; the parts add up to total_ns."""

    queue_ns: int = 0
    prefill_ns: int = 0
    draft_ns: int = 0
    verify_ns: int = 0
    verify_queue_ns: int = 0
    network_ns: int = 0
    other_ns: int = 0
    total_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TierCounts:
    """One tier's part: tokens it proposed that reached the verifier, and those accepted."""

    tier: str
    proposed_tokens: int
    accepted_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The end of a successful stream.

    completion_tokens = accepted + corrected + bonus + plain + unverified; agreed_tokens counts the
    unverified ones that the target would have chosen as well.
    """

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    accepted_tokens: int = 0
    corrected_tokens: int = 0
    bonus_tokens: int = 0
    plain_tokens: int = 0
    unverified_tokens: int = 0
    rounds: int = 0
    tiers: tuple[TierCounts, ...] = ()
    timings: Timings = field(default_factory=Timings)
    exactness: Exactness = Exactness.EXACT
    agreed_tokens: int = 0
    reconnects: int = 0
    corrections: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The end of a failed stream: an error as data (`errors.from_reason` rebuilds it)."""

    reason: str
    message: str
    grpc_code: int
    details: dict[str, str] = field(default_factory=dict)


GenerateEvent = Started | Tokens | Correction | Summary | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One event in a request's journal and the drafter that wrote it."""

    event: GenerateEvent
    writer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One job handed to a consumer; `token` identifies it for ack and renew, `attempts` from 1."""

    job: GenerateJob
    token: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A job that was given up: its id among the dead letters, why, and the job if it can be read.

    `died_unix_ms` is when it was put there.
    """

    id: str
    reason: str
    request_id: str
    tenant: str
    died_unix_ms: int
