"""How many second attempts a process may make: answers earn them, so that trouble cannot multiply.

As gRPC's retry throttling (A6) has it, every answer adds a fraction of a token and every retry
takes one. A slow trickle keeps a process alive that gets no answers at all.
"""

from __future__ import annotations

from collections.abc import Callable

MOST_TOKENS = 32.0
TOKENS_PER_ANSWER = 0.1
TOKENS_PER_S = 8.0


class RetryBudget:
    """A bucket of retries, full at first. `clock` gives monotonic seconds."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        most: float = MOST_TOKENS,
        per_answer: float = TOKENS_PER_ANSWER,
        per_s: float = TOKENS_PER_S,
    ) -> None:
        self._clock = clock
        self._most = most
        self._per_answer = per_answer
        self._per_s = per_s
        self._tokens = most
        self._at = clock()

    def earn(self) -> None:
        """An answer came."""
        self._trickle()
        self._tokens = min(self._most, self._tokens + self._per_answer)

    def spend(self) -> bool:
        """Take a token if there is one; for what can be left undone."""
        self._trickle()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def reserve(self, longest_s: float) -> float | None:
        """Take a token in advance: seconds until it is there, every caller at its own time.

        None, and nothing is taken, when that would be later than `longest_s`.
        """
        self._trickle()
        wait_s = max(0.0, (1 - self._tokens) / self._per_s)
        if wait_s > longest_s:
            return None
        self._tokens -= 1
        return wait_s

    def _trickle(self) -> None:
        now = self._clock()
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_s)
        self._at = now
