"""How a token is chosen: filters in the field's order, then argmax of log p + shared noise."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hola.errors import EngineFailure
from hola.ports import Logits
from hola.speculation.noise import LEAST_GUMBEL, MOST_GUMBEL, Float64, to_gumbel, uniform
from hola.types import SamplingParams

Ids = npt.NDArray[np.int64]

# Smaller temperatures act as this one: apart from exact ties it is greedy already.
_LEAST_TEMPERATURE = 1e-12
_DEPTHS_NATS = (4.0, 8.0, 16.0, math.inf)


def choose(row: Logits, params: SamplingParams, position: int) -> int:
    """The token for one position, a pure function of the arguments.

    `row` is float32, shape (vocab_size,), and is not changed; `position` is the absolute index of
    the chosen token in prompt + output. Temperature 0: argmax. Otherwise temperature, top-k,
    top-p, min-p, then argmax of log p + gumbel(seed, position, id). Every tie goes to the lowest
    id. Raises EngineFailure when a logit is not finite.
    """
    best = int(row.argmax())
    # NaN counts as the largest for argmax and as the smallest for minimum; both ends finite
    # means all are.
    if not (math.isfinite(row[best]) and math.isfinite(np.minimum.reduce(row))):
        raise EngineFailure("the engine gave non-finite logits", position=position)
    if params.temperature == 0 or params.top_k == 1:
        return best
    scores = row.astype(np.float64)
    scores -= scores[best]
    scores /= max(params.temperature, _LEAST_TEMPERATURE)
    ids, scores = _filter(scores, params)
    return _argmax_with_noise(ids, scores, params.seed, position)


def logprob(row: Logits, token: int) -> float:
    """Natural log-probability of `token` under the unmodified distribution of `row`."""
    scores = row.astype(np.float64)
    scores -= scores.max()
    return float(scores[token] - math.log(np.exp(scores).sum()))


def entropy(row: Logits) -> float:
    """Entropy in nats of the unmodified distribution of `row`."""
    scores = row.astype(np.float64)
    scores -= scores.max()
    weights = np.exp(scores)
    total = float(weights.sum())
    return max(0.0, math.log(total) - float(weights @ scores) / total)


def _filter(scores: Float64, params: SamplingParams) -> tuple[Ids, Float64]:
    """Ids (ascending) and scores that top-k, top-p and min-p leave, in that order.

    `scores` are log-probabilities up to a constant, the highest 0, shape (vocab_size,).
    """
    ids: Ids = np.arange(len(scores))
    if 0 < params.top_k < len(scores):
        ids = _top_k(scores, params.top_k)
        scores = scores[ids]
    if params.top_p < 1:
        kept = _top_p(scores, params.top_p)
        ids, scores = ids[kept], scores[kept]
    if params.min_p > 0:
        kept = np.flatnonzero(scores >= math.log(params.min_p))
        ids, scores = ids[kept], scores[kept]
    return ids, scores


def _top_k(scores: Float64, k: int) -> Ids:
    """Indices, ascending, of the k highest scores."""
    for near in _ever_more(scores):
        if len(near) >= k:
            break
    rank = len(near) - k
    threshold = np.partition(scores[near], rank)[rank]
    above = np.flatnonzero(scores > threshold)
    ties = np.flatnonzero(scores == threshold)[: k - len(above)]
    return np.sort(np.concatenate((above, ties)))


def _top_p(scores: Float64, top_p: float) -> Ids:
    """Indices, ascending, of the fewest highest scores whose probability reaches top_p.

    The cumulative sum of a longer sorted list begins with the same numbers, so how many are
    sorted does not matter.
    """
    reach = top_p * float(np.exp(scores).sum())
    for near in _ever_more(scores):
        order = near[np.argsort(-scores[near], kind="stable")]
        size = int(np.searchsorted(np.cumsum(np.exp(scores[order])), reach)) + 1
        if size <= len(order):
            break
    return np.sort(order[:size])


def _ever_more(scores: Float64) -> Iterator[Ids]:
    """Indices of the scores within some distance of the highest (which is 0), at last of all.

    In a large vocabulary the few that matter are found by comparing, without sorting the rest.
    """
    for depth in _DEPTHS_NATS:
        yield np.flatnonzero(scores >= -depth)


def _argmax_with_noise(ids: Ids, scores: Float64, seed: int, position: int) -> int:
    """argmax of scores + gumbel over `ids`, looking closely only at ids that can win.

    Adding the noise to score s is racing exponential times -log(u) / exp(s): the lowest wins.
    Since -log(u) >= 1 - u, an id whose (1 - u) / exp(s) is above a time already reached has lost,
    and most ids are settled by one multiplication instead of two logarithms.
    """
    within_reach = scores > LEAST_GUMBEL - MOST_GUMBEL
    if not within_reach.all():
        ids, scores = ids[within_reach], scores[within_reach]
    u = uniform(seed, position, ids)
    leader = int(scores.argmax())
    # The factor leaves room for rounding, so that no winner is lost to it.
    time_to_beat = -math.log(u[leader]) * (1 + 1e-9)
    close = np.flatnonzero(1.0 - u <= time_to_beat * np.exp(scores))
    winner = (scores[close] + to_gumbel(u[close])).argmax()
    return int(ids[close[winner]])
