"""How long a request waits, and how long it pauses between two tries to reach a verifier."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from hola.errors import HolaError, SessionMoved

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
# A session that is moved on more often than that meets verifiers that all drain.
_MOVES_IN_A_ROW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one request waits: for a lost verifier, for one answer of a living one, for a
    goodbye, in all.

    `deadline_s` is counted from the call of `run_session`; None waits for ever. `at_once_s` is what
    a request that need not or must not wait (Outage.LOCAL, FAIL) gives a connection;
    `local_after_s` is how long a LOCAL one gives the next verifier before it goes on by itself.
    """

    verifier_wait_s: float
    answer_s: float = 120.0
    hang_up_s: float = 2.0
    deadline_s: float | None = None
    at_once_s: float = 2.0
    local_after_s: float = 0.5


class Absence:
    """The time without a verdict since a verifier was lost, and the tries to reach one in it."""

    def __init__(
        self,
        limit_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._jitter = jitter
        self.over()

    def over(self) -> None:
        """A verdict came."""
        self._since: float | None = None
        self._moves = 0
        self.tries = 0
        self.trouble: HolaError | None = None

    @property
    def left_s(self) -> float:
        """Seconds until the limit; 0.0 behind it."""
        now = self._clock()
        return max(0.0, self._limit_s - (now - (now if self._since is None else self._since)))

    def pause_s(self, trouble: HolaError) -> float:
        """Seconds until the next try: none for the first, nor for a session that only moves."""
        self._since = self._clock() if self._since is None else self._since
        self.trouble = trouble
        if isinstance(trouble, SessionMoved) and self._moves < _MOVES_IN_A_ROW:
            self._moves += 1
            return 0.0
        self.tries += 1
        if self.tries == 1:
            return 0.0
        # The exponent is bounded: 2.0 ** 1100 is no float.
        longest_s = min(_FIRST_PAUSE_S * 2.0 ** min(self.tries, 16), _LONGEST_PAUSE_S)
        return longest_s * self._jitter()
