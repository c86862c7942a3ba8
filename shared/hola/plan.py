"""Retrieval for one request as frozen dataclasses: what is asked, what was decided, what is cited.

Fields, units and bounds are those of plan.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hola.enums import RetrievalMode, RetrievalPlan, StoreOutage

MAX_COLLECTIONS = 16
MAX_PASSAGE_TOKENS = 1_048_576
MAX_LATENCY_TARGET_MS = 3_600_000
MAX_CUTS = 32
MAX_LOOKUP_TEXTS = 64
MAX_LOOKUP_CHARS = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalParams:
    """What a client asks of retrieval; the defaults are none.

    `mode` None is OFF without collections and AUTO with. 0 tokens and 0 ms leave the budget to the
    router.
    """

    mode: RetrievalMode | None = None
    collections: tuple[str, ...] = ()
    max_passage_tokens: int = 0
    latency_target_ms: int = 0
    store_outage: StoreOutage = StoreOutage.FAIL

    @property
    def effective_mode(self) -> RetrievalMode:
        """The mode with its default in place."""
        if self.mode is not None:
            return self.mode
        return RetrievalMode.AUTO if self.collections else RetrievalMode.OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A passage that stands in the prompt as `number`, or, as 0, one that was cut.

    `cut` says why, or of a kept one what of it was left out.

    `ranges` are (begin, end) in characters of the chunk's text; `text` is what they say, as it
    stands in the prompt.
    """

    number: int
    collection: str
    source: str
    title: str = ""
    heading: str = ""
    page: int = 0
    chunk_id: str = ""
    ranges: tuple[tuple[int, int], ...] = ()
    text: str = ""
    tokens: int = 0
    score: float = 0.0
    bm25: float | None = None
    dense: float | None = None
    cut: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthWeight:
    """What one depth was expected to bring (score, probability) and to cost (milliseconds).

    `net` is gain minus cost in units of right answers.
    """

    depth: RetrievalPlan
    gain: float
    helps: float
    cost_ms: float
    net: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was decided for a request, and everything it was decided from."""

    depth: RetrievalPlan = RetrievalPlan.NONE
    mode: RetrievalMode = RetrievalMode.OFF
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    signals: Mapping[str, float] = field(default_factory=dict)
    judged_by: tuple[str, ...] = ()
    weights: tuple[DepthWeight, ...] = ()
    citations: tuple[Citation, ...] = ()
    cuts: tuple[Citation, ...] = ()
    passage_tokens: int = 0
    token_budget: int = 0
    prefill_ms_per_token: float = 0.0
    search_ms: float = 0.0
    gate_ms: float = 0.0
