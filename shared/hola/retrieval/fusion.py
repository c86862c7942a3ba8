"""Two rankings made one: relative scores or reciprocal ranks, as pure functions.

The formulas are those that Weaviate describes for its hybrid search (relativeScoreFusion and
rankedFusion), so that its results and ours can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from hola.retrieval.types import Fusion

K = TypeVar("K")
RANK_OFFSET = 60

Scores = Mapping[K, float]


def fuse(bm25: Scores[K], dense: Scores[K], *, alpha: float, rule: Fusion) -> dict[K, float]:
    """Score of every key of either ranking, best first; `dense` weighs alpha, `bm25` 1 - alpha.

    Ties keep the order of `bm25`, then of `dense`.
    """
    share = _RULES[rule]
    fused: dict[K, float] = {}
    for scores, weight in ((bm25, 1 - alpha), (dense, alpha)):
        for key, value in share(scores).items():
            fused[key] = fused.get(key, 0.0) + weight * value
    return dict(sorted(fused.items(), key=lambda item: -item[1]))


def relative_scores(scores: Scores[K]) -> dict[K, float]:
    """Scores moved and stretched so that the best is 1 and the worst 0; all 1 if all are equal."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high == low:
        return dict.fromkeys(scores, 1.0)
    return {key: (value - low) / (high - low) for key, value in scores.items()}


def reciprocal_ranks(scores: Scores[K]) -> dict[K, float]:
    """1 / (60 + rank) with rank 0 for the best; Cormack, Clarke and Buettcher, SIGIR 2009."""
    ranked = sorted(scores, key=lambda key: -scores[key])
    return {key: 1 / (RANK_OFFSET + rank) for rank, key in enumerate(ranked)}


_RULES: Mapping[Fusion, Callable[[Scores[K]], dict[K, float]]] = {
    Fusion.RELATIVE: relative_scores,
    Fusion.RECIPROCAL: reciprocal_ranks,
}
