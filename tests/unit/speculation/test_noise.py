"""The shared noise: stateless, pinned for ever, standard Gumbel."""

from __future__ import annotations

import numpy as np
import pytest

from hola.speculation import noise
from hola.speculation.noise import LEAST_GUMBEL, MOST_GUMBEL, gumbel, mix, uniform

IDS = np.arange(4096)


def test_values_are_pinned() -> None:
    """Changing any of these changes every sampled text, and breaks mixed versions in one fleet."""
    assert mix(0) == 0xE220A8397B1DCDAF  # SplitMix64's published first output for seed 0
    assert [float(u).hex() for u in uniform(0, 0, np.arange(3))] == [
        "0x1.693568ef770d1p-1",
        "0x1.1c13ade1c7e5cp-3",
        "0x1.f1344acd6b045p-1",
    ]
    assert [float(u).hex() for u in uniform(2**63 - 1, 12345, np.array([0, 150_000]))] == [
        "0x1.e87d0402c9cc6p-2",
        "0x1.8df776487aecbp-1",
    ]


def test_a_value_depends_on_its_own_id_only() -> None:
    everything = gumbel(11, 5, IDS)
    some = np.array([4095, 0, 17, 2048])
    np.testing.assert_array_equal(gumbel(11, 5, some), everything[some])
    np.testing.assert_array_equal(gumbel(11, 5, some.astype(np.int32)), everything[some])


@pytest.mark.parametrize(("seed", "position"), [(12, 5), (11, 6), (5, 11)])
def test_other_seeds_and_positions_are_independent(seed: int, position: int) -> None:
    one, other = uniform(11, 5, IDS), uniform(seed, position, IDS)
    # 5 standard deviations of the correlation of 4096 independent pairs: false alarm 6e-7.
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(len(IDS))


def test_shifted_streams_do_not_repeat() -> None:
    """Neither the next position nor the next seed is this one's stream moved along."""
    words = {float(u) for u in uniform(3, 0, IDS)}
    for seed, position in [(3, 1), (4, 0), (2, 0)]:
        assert not words & {float(u) for u in uniform(seed, position, IDS)}


def test_distribution() -> None:
    """Kolmogorov-Smirnov distance to uniform below 1.95 / sqrt(n): false alarm 0.1 %."""
    u = np.sort(np.concatenate([uniform(1, position, IDS) for position in range(8)]))
    expected = (np.arange(len(u)) + 0.5) / len(u)
    assert np.abs(u - expected).max() < 1.95 / np.sqrt(len(u))
    g = np.concatenate([gumbel(1, position, IDS) for position in range(8)])
    assert g.mean() == pytest.approx(0.5772, abs=5 * 1.2825 / np.sqrt(len(g)))


def test_the_ends_of_the_interval_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even all-zero and all-one words give finite noise, within the stated bounds."""

    def set_words(words: np.ndarray) -> None:
        words[:] = np.array([0, 2**64 - 1], dtype=np.uint64)

    monkeypatch.setattr(noise, "_mix_in_place", set_words)
    u = uniform(0, 0, np.arange(2))
    assert 0 < u[0] < u[1] < 1
    low, high = gumbel(0, 0, np.arange(2))
    assert low == LEAST_GUMBEL
    assert high == pytest.approx(MOST_GUMBEL)
