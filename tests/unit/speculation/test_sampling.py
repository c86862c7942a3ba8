"""Token choice: the filters, ties, bad logits, and the distribution that comes out."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from scipy import stats

from hola.errors import EngineFailure
from hola.speculation.noise import gumbel
from hola.speculation.sampling import choose, entropy, logprob
from hola.types import SamplingParams


def reference_support(row: np.ndarray, params: SamplingParams) -> list[tuple[int, float]]:
    """(id, score) left by the filters, spelled out over Python lists, in the field's order."""
    top = float(row.max())
    scored = [(i, (float(x) - top) / params.temperature) for i, x in enumerate(row)]
    by_rank = sorted(scored, key=lambda pair: (-pair[1], pair[0]))
    if params.top_k:
        by_rank = by_rank[: params.top_k]
    if params.top_p < 1:
        total = math.fsum(math.exp(score) for _, score in by_rank)
        kept, reached = [], 0.0
        for pair in by_rank:
            if reached >= params.top_p:
                break
            kept.append(pair)
            reached += math.exp(pair[1]) / total
        by_rank = kept
    if params.min_p:
        by_rank = [pair for pair in by_rank if math.exp(pair[1]) >= params.min_p]
    return sorted(by_rank)


def reference_choice(row: np.ndarray, params: SamplingParams, position: int) -> int:
    """argmax of log p + Gumbel over the whole support, first id among equals."""
    support = reference_support(row, params)
    ids = np.array([i for i, _ in support])
    keys = np.array([score for _, score in support]) + gumbel(params.seed, position, ids)
    return int(ids[keys.argmax()])


def random_row(random: Random, size: int) -> np.ndarray:
    generator = np.random.default_rng(random.randrange(2**32))
    row = generator.standard_normal(size) * random.choice([0.01, 1, 4, 30])
    if random.random() < 0.5:
        row = np.round(row)  # many ties
    if random.random() < 0.3:
        row[generator.integers(size)] += 50
    return row.astype(np.float32)


def test_equals_the_spelled_out_definition() -> None:
    filtered = 0
    for seed in range(600):
        random = Random(seed)
        row = random_row(random, random.choice([1, 2, 5, 64, 300, 1000]))
        params = SamplingParams(
            temperature=random.choice([0.1, 0.7, 1.0, 1.5, 100.0]),
            top_k=random.choice([0, 0, 1, 2, 7, 70, 5000]),
            top_p=random.choice([1.0, 1.0, 0.999, 0.9, 0.5, 1e-6]),
            min_p=random.choice([0, 0, 1e-4, 0.1, 1.0]),
            seed=random.randrange(2**63),
        )
        position = random.randrange(10**6)
        expected = reference_choice(row, params, position)
        assert choose(row, params, position) == expected, f"replay: seed={seed} {params}"
        filtered += len(reference_support(row, params)) < len(row)
    assert filtered > 300


def test_greedy_takes_the_lowest_of_equals() -> None:
    row = np.array([0, 3, 1, 3, 3], dtype=np.float32)
    assert choose(row, SamplingParams(), 9) == 1
    assert choose(row, SamplingParams(temperature=1.0, top_k=1), 9) == 1
    assert choose(row, SamplingParams(temperature=1.0, top_p=1e-9), 9) == 1


def test_top_k_keeps_exactly_k_of_equals() -> None:
    row = np.zeros(50, dtype=np.float32)
    seen = {choose(row, SamplingParams(temperature=1.0, top_k=3), at) for at in range(200)}
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("temperature", [1e-300, 5e-324, 1e-12])
def test_a_vanishing_temperature_is_greedy(temperature: float) -> None:
    row = np.array([-3e38, 1.5, 1.25, 3e38], dtype=np.float32)
    assert choose(row, SamplingParams(temperature=temperature), 0) == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("at", [0, 7, 99])
def test_refuses_logits_that_are_not_finite(bad: float, temperature: float, at: int) -> None:
    row = np.linspace(-1, 1, 100, dtype=np.float32)
    row[at] = bad
    with pytest.raises(EngineFailure, match="non-finite"):
        choose(row, SamplingParams(temperature=temperature), 5)


def test_leaves_the_row_alone() -> None:
    row = np.linspace(-1, 1, 100, dtype=np.float32)
    row.setflags(write=False)
    choose(row, SamplingParams(temperature=0.7, top_k=9, top_p=0.9, min_p=0.01), 5)
    assert entropy(row) > 0
    assert logprob(row, 3) < 0


def test_logprob_and_entropy() -> None:
    row = np.log(np.array([0.5, 0.25, 0.125, 0.125], dtype=np.float32))
    assert logprob(row + 3, 1) == pytest.approx(math.log(0.25), abs=1e-6)
    assert entropy(row + 3) == pytest.approx(1.75 * math.log(2), abs=1e-6)
    assert entropy(np.array([100, -100, -100], dtype=np.float32)) == pytest.approx(0, abs=1e-80)
    assert entropy(np.zeros(8, dtype=np.float32)) == pytest.approx(math.log(8))


CHI2_ALARM = 1e-4
DISTRIBUTIONS = (
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.7),
    SamplingParams(temperature=1.5, top_k=5),
    SamplingParams(temperature=1.0, top_p=0.8),
    SamplingParams(temperature=1.0, min_p=0.2),
)


@pytest.mark.parametrize("params", DISTRIBUTIONS, ids=str)
@pytest.mark.parametrize("over", ["seeds", "positions"])
def test_chi_squared(params: SamplingParams, over: str) -> None:
    """Choices follow the filtered softmax; each case alarms falsely with probability 1e-4."""
    row = np.array([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0], dtype=np.float32)
    draws = 5_000
    observed = np.zeros(len(row))
    for draw in range(draws):
        seed, position = (draw, 4) if over == "seeds" else (4, draw)
        with_seed = SamplingParams(
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            min_p=params.min_p,
            seed=seed,
        )
        observed[choose(row, with_seed, position)] += 1
    support = reference_support(row, params)
    ids = [i for i, _ in support]
    weights = np.array([math.exp(score) for _, score in support])
    assert observed.sum() == observed[ids].sum()
    expected = draws * weights / weights.sum()
    p_value = stats.chisquare(observed[ids], expected).pvalue
    assert p_value > CHI2_ALARM


def test_coupled_choices_meet_often() -> None:
    """Shared noise makes different distributions agree at the rate of Daliri et al., 2408.07978.

    Exactly: sum_x 1 / sum_y max(p_y / p_x, q_y / q_x), at least (1 - TV) / (1 + TV). The
    tolerance is 5 standard deviations: false alarm below 1e-6.
    """
    generator = np.random.default_rng(3)
    target = generator.standard_normal(8).astype(np.float32)
    draft = (target + 0.7 * generator.standard_normal(8)).astype(np.float32)
    p, q = (np.exp(row - row.max()) for row in (target, draft))
    p, q = p / p.sum(), q / q.sum()
    exact = sum(1 / np.maximum(p / p[x], q / q[x]).sum() for x in range(len(p)))
    distance = np.abs(p - q).sum() / 2
    draws = 10_000
    params = SamplingParams(temperature=1.0, seed=5)
    met = sum(choose(target, params, at) == choose(draft, params, at) for at in range(draws))
    tolerance = 5 * math.sqrt(exact * (1 - exact) / draws)
    assert met / draws == pytest.approx(exact, abs=tolerance)
    assert exact >= (1 - distance) / (1 + distance)
    # Independent noise would agree far less often.
    assert met / draws > float(p @ q) + 0.2
