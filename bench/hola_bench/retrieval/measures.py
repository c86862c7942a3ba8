"""How good a ranking is: nDCG and recall, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def ndcg(ranked: Sequence[str], gains: Mapping[str, float], k: int = 10) -> float:
    """Discounted gain of the first k over the best possible, 0 to 1; trec_eval's ndcg_cut."""
    best = _discounted(sorted(gains.values(), reverse=True)[:k])
    if not best:
        return 0.0
    return _discounted([gains.get(document, 0.0) for document in ranked[:k]]) / best


def recall(ranked: Sequence[str], gains: Mapping[str, float], k: int = 100) -> float:
    """Share of the answering documents among the first k, 0 to 1."""
    if not gains:
        return 0.0
    return len(gains.keys() & set(ranked[:k])) / len(gains)


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))
