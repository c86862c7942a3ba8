"""Does sampling follow the target's distribution? Pearson's chi-squared test, without scipy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hola.speculation.sampling import choose
from hola.types import SamplingParams

# All tests together reject a correct sampler with at most this probability (Bonferroni).
FALSE_ALARM_PROBABILITY = 1e-6
LEAST_EXPECTED = 5.0

Counts = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChiSquared:
    """One test: the statistic, its degrees of freedom, and the chance of one as big."""

    name: str
    draws: int
    statistic: float
    freedom: int
    p: float


def chi_squared(name: str, counts: Counts, expected: Probabilities) -> ChiSquared:
    """Compare counts, shape (n,), with the probabilities they should follow, shape (n,).

    Cells that expect fewer than five draws are counted as one. A draw where the probability is 0
    gives p = 0. Raises ValueError when fewer than two cells are left.
    """
    draws = int(counts.sum())
    if counts[expected == 0].any():
        return ChiSquared(name=name, draws=draws, statistic=math.inf, freedom=1, p=0.0)
    observed, wanted = _merge_rare(counts.astype(np.float64), expected * draws)
    if len(wanted) < 2:
        raise ValueError(f"{name}: {draws} draws are too few to tell {len(expected)} cells apart")
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    freedom = len(wanted) - 1
    return ChiSquared(
        name=name,
        draws=draws,
        statistic=statistic,
        freedom=freedom,
        p=upper_gamma(freedom / 2, statistic / 2),
    )


def _merge_rare(
    observed: Probabilities, wanted: Probabilities
) -> tuple[Probabilities, Probabilities]:
    rare = wanted < LEAST_EXPECTED
    cells = [observed[~rare]], [wanted[~rare]]
    if wanted[rare].sum() >= LEAST_EXPECTED:
        cells[0].append(observed[rare].sum(keepdims=True))
        cells[1].append(wanted[rare].sum(keepdims=True))
    return np.concatenate(cells[0]), np.concatenate(cells[1])


def upper_gamma(a: float, x: float) -> float:
    """Regularized upper incomplete gamma function Q(a, x), for a > 0 and x >= 0.

    A power series below a + 1, Lentz's continued fraction above (Press et al., Numerical Recipes,
    section 6.2).
    """
    if x <= 0:
        return 1.0
    if math.isinf(x):
        return 0.0
    scale = math.exp(-x + a * math.log(x) - math.lgamma(a))
    if x < a + 1:
        return min(1.0, max(0.0, 1 - scale * _series(a, x)))
    return min(1.0, max(0.0, scale * _fraction(a, x)))


def _series(a: float, x: float) -> float:
    term = total = 1 / a
    n = a
    while abs(term) > abs(total) * 1e-16:
        n += 1
        term *= x / n
        total += term
    return total


def _fraction(a: float, x: float) -> float:
    tiny = 1e-300
    b = x + 1 - a
    c = 1 / tiny
    d = 1 / b
    h = d
    for i in range(1, 10_000):
        numerator = -i * (i - a)
        b += 2
        d = 1 / (numerator * d + b or tiny)
        c = b + numerator / c or tiny
        h *= d * c
        if abs(d * c - 1) < 1e-16:
            break
    return h


def filtered(row: npt.NDArray[np.float32], params: SamplingParams) -> Probabilities:
    """The distribution a token must follow, written independently of `hola.speculation.sampling`.

    Plain Python on one row: temperature, then top-k, top-p, min-p, each on what is left.
    """
    weights = [math.exp((float(x) - float(row.max())) / params.temperature) for x in row]
    order = sorted(range(len(weights)), key=lambda i: (-weights[i], i))
    if params.top_k:
        order = order[: params.top_k]
    order = _nucleus(order, weights, params.top_p)
    likeliest = weights[order[0]]
    kept = [i for i in order if weights[i] >= params.min_p * likeliest]
    total = sum(weights[i] for i in kept)
    result = np.zeros(len(weights))
    for i in kept:
        result[i] = weights[i] / total
    return result


def _nucleus(order: list[int], weights: Sequence[float], top_p: float) -> list[int]:
    """The smallest prefix of `order` whose share reaches top_p."""
    total = sum(weights[i] for i in order)
    reached = 0.0
    for count, i in enumerate(order, start=1):
        reached += weights[i] / total
        if reached >= top_p:
            return order[:count]
    return order


FILTERS = {
    "temperature 1": SamplingParams(temperature=1.0),
    "temperature 0.7": SamplingParams(temperature=0.7),
    "temperature 2": SamplingParams(temperature=2.0),
    "top-k 5": SamplingParams(temperature=1.0, top_k=5),
    "top-p 0.8": SamplingParams(temperature=1.0, top_p=0.8),
    "min-p 0.1": SamplingParams(temperature=1.0, min_p=0.1),
    "all": SamplingParams(temperature=0.9, top_k=12, top_p=0.9, min_p=0.02),
}


def sampler_tests(seed: int, draws: int, vocab_size: int = 16) -> list[ChiSquared]:
    """`choose` over many seeds and over many positions against the exact distribution."""
    rng = np.random.default_rng(seed)
    tests = []
    for name, params in FILTERS.items():
        row = rng.normal(scale=1.5, size=vocab_size).astype(np.float32)
        expected = filtered(row, params)
        by_seed = (choose(row, replace(params, seed=seed + i), 7) for i in range(draws))
        by_position = (choose(row, replace(params, seed=seed), i) for i in range(draws))
        tests.append(chi_squared(f"{name}, over seeds", tally(by_seed, vocab_size), expected))
        tests.append(
            chi_squared(f"{name}, over positions", tally(by_position, vocab_size), expected)
        )
    return tests


def tally(tokens: Iterable[int], vocab_size: int) -> Counts:
    """How often each token id occurs, shape (vocab_size,)."""
    return np.bincount(np.fromiter(tokens, np.int64), minlength=vocab_size)


def alarms(tests: Sequence[ChiSquared]) -> Iterator[ChiSquared]:
    """Tests whose p is below the level that keeps FALSE_ALARM_PROBABILITY for all together."""
    level = FALSE_ALARM_PROBABILITY / len(tests)
    return (test for test in tests if test.p < level)
