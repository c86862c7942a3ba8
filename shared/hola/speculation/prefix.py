"""How much of a KV cache still holds for another token sequence."""

from __future__ import annotations


def common_prefix(left: list[int], right: list[int]) -> int:
    """Length of the longest common prefix.

    Compares slices (at C speed, and mostly by identity) and halves only on a difference: on the
    hot path nearly all of a long prefix is equal.
    """
    size = min(len(left), len(right))
    if left[:size] == right[:size]:
        return size
    equal, different = 0, size
    while different - equal > 1:
        middle = (equal + different) // 2
        if left[equal:middle] == right[equal:middle]:
            equal = middle
        else:
            different = middle
    return equal
