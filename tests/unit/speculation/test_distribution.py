"""Sampled speculation follows the target's own distribution, measured over whole requests."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from scipy import stats

from hola.engines.scripted import Script, ScriptedEngine
from hola.speculation.proposers import Tier, build_ladder
from hola.types import SamplingParams
from tests.unit.speculation.drive import Run

FALSE_ALARM = 1e-4
REQUESTS = 2500
PROMPT = (1, 4)
TARGET = Script(name="target", seed=2, vocab_size=6, eos_token_id=6, sharpness=0.6)


def probabilities(temperature: float) -> dict[tuple[int, int], float]:
    """Of every pair of output tokens, by enumeration."""
    found = {}
    for first, second in itertools.product(range(TARGET.vocab_size), repeat=2):
        session = ScriptedEngine(TARGET).open(8)
        rows = session.forward([*PROMPT, first]).astype(np.float64) / temperature
        weights = np.exp(rows - rows.max(axis=1, keepdims=True))
        chances = weights / weights.sum(axis=1, keepdims=True)
        found[first, second] = float(chances[-2, first] * chances[-1, second])
    return found


@pytest.mark.parametrize("temperature", [0.7, 1.0])
@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_chi_squared_of_speculative_requests(temperature: float, noise: float) -> None:
    """36 cells, 2,500 requests; alarms falsely with probability 1e-4 per case."""
    draft = ScriptedEngine(replace(TARGET, noise=noise))
    seen: Counter[tuple[int, ...]] = Counter()
    accepted = proposed = 0
    for seed in range(REQUESTS):
        sampling = SamplingParams(temperature=temperature, seed=seed, max_tokens=3)
        run = Run(
            prompt=PROMPT,
            sampling=sampling,
            new_ladder=lambda sampling=sampling: build_ladder(
                [Tier(name="draft", session=draft.open(8))], sampling
            ),
            random=Random(seed),
            most_draft_tokens=3,
            target=replace(TARGET, context_length=8),
        )
        seen[run.play().tokens[:2]] += 1
        tier = next(tier for tier in run.summary.tiers if tier.tier == "draft")
        accepted += tier.accepted_tokens
        proposed += tier.proposed_tokens
    expected = {pair: REQUESTS * chance for pair, chance in probabilities(temperature).items()}
    # Cells too thin for the chi-squared approximation are pooled.
    thick = [pair for pair, count in expected.items() if count >= 5]
    observed = [seen[pair] for pair in thick]
    wanted = [expected[pair] for pair in thick]
    if len(thick) < len(expected):
        observed.append(REQUESTS - sum(observed))
        wanted.append(REQUESTS - sum(wanted))
    assert stats.chisquare(observed, wanted).pvalue > FALSE_ALARM
    assert 0.3 < accepted / proposed < 0.95
