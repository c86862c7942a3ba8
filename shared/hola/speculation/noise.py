"""Gumbel noise as a pure function of (seed, position, token id): no state, so nothing to lose."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Uint64 = npt.NDArray[np.uint64]
Float64 = npt.NDArray[np.float64]

_WORD = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_HALF_ULP = 2.0**-53

# u lies in [2^-53, 1 - 2^-53], so Gumbel noise lies between these two, about -3.6 and 36.7.
LEAST_GUMBEL = -math.log(-math.log(_HALF_ULP))
MOST_GUMBEL = -math.log(_HALF_ULP)


def gumbel(seed: int, position: int, token_ids: npt.NDArray[np.integer]) -> Float64:
    """Standard Gumbel noise for each token id at one position, same shape as `token_ids`.

    `position` is the absolute index in prompt + output of the token being chosen. Each value
    depends on nothing but its own (seed, position, id).
    """
    return to_gumbel(uniform(seed, position, token_ids))


def to_gumbel(u: Float64) -> Float64:
    """Gumbel noise from uniform numbers in (0, 1), element by element, rising with them."""
    return -np.log(-np.log(u))


def uniform(seed: int, position: int, token_ids: npt.NDArray[np.integer]) -> Float64:
    """Uniform numbers in the open interval (0, 1) that `gumbel` is made of, float64.

    SplitMix64 (Steele, Lea & Flood, OOPSLA 2014) as a counter-based generator: its stream is
    started at a key mixed from seed and position, and the token id is the index into it.
    """
    words = token_ids.astype(np.uint64)
    words *= np.uint64(_GAMMA)
    words += np.uint64(_key(seed, position))
    _mix_in_place(words)
    words >>= np.uint64(12)
    # 52 random bits and a half: exact in float64, and neither 0 nor 1. As signed integers they
    # convert several times faster.
    u = words.view(np.int64).astype(np.float64)
    u += 0.5
    u *= 2.0**-52
    return u


def _key(seed: int, position: int) -> int:
    return mix(mix(seed & _WORD) + position * _GAMMA)


def mix(word: int) -> int:
    """SplitMix64's finalizer on one 64-bit word (higher bits are cut off)."""
    word = (word + _GAMMA) & _WORD
    word = ((word ^ (word >> 30)) * _MIX_1) & _WORD
    word = ((word ^ (word >> 27)) * _MIX_2) & _WORD
    return word ^ (word >> 31)


def _mix_in_place(words: Uint64) -> None:
    shifted = words >> np.uint64(30)
    words ^= shifted
    words *= np.uint64(_MIX_1)
    np.right_shift(words, np.uint64(27), out=shifted)
    words ^= shifted
    words *= np.uint64(_MIX_2)
    np.right_shift(words, np.uint64(31), out=shifted)
    words ^= shifted
