"""A circuit breaker for one address, without I/O: closed, open for a jittered while, half-open."""

from __future__ import annotations

import enum
from collections.abc import Callable

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_random_exponential

FAILURES = 3
_SHORTEST_PAUSE_S = 0.1
_FIRST_PAUSE_S = 0.2
# No longer than a channel's own pause between two attempts to connect: a verifier that is back
# after a restart is found again as fast as without a breaker.
_LONGEST_PAUSE_S = 2.0
_pauses = wait_random_exponential(
    multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S, min=_SHORTEST_PAUSE_S
)


class BreakerState(enum.Enum):
    """Whether calls go through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


def jittered_pause(trips: int) -> float:
    """Seconds to leave an address alone after it has failed `trips` times in a row, from 1."""
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = trips
    return _pauses(state)


class CircuitBreaker:
    """Opens after FAILURES failures in a row; half-open it lets one trial through per pause.

    `clock` gives monotonic seconds, `pause` the seconds to stay open after the n-th trip in a row.
    """

    def __init__(
        self, clock: Callable[[], float], *, pause: Callable[[int], float] = jittered_pause
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._failures = 0
        self._trips = 0
        self._resumes_at: float | None = None

    @property
    def state(self) -> BreakerState:
        """CLOSED; OPEN until its pause is over, then HALF_OPEN until a trial has ended."""
        if self._resumes_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self.wait_s() > 0 else BreakerState.HALF_OPEN

    def wait_s(self) -> float:
        """Seconds until a call may go through; 0.0 when one may now."""
        if self._resumes_at is None:
            return 0.0
        return max(0.0, self._resumes_at - self._clock())

    def begin(self) -> None:
        """A call goes through; half-open, the next trial has to wait for a pause again."""
        if self._resumes_at is not None:
            self._resumes_at = self._clock() + self._pause(self._trips)

    def succeeded(self) -> None:
        """An answer came: closed, all failures are forgotten."""
        self._failures = self._trips = 0
        self._resumes_at = None

    def failed(self) -> bool:
        """A call failed; whether that has opened the breaker.

        News of calls that were begun before it opened changes nothing.
        """
        if self.state is BreakerState.OPEN:
            return False
        self._failures += 1
        if self._resumes_at is None and self._failures < FAILURES:
            return False
        return self.trip()

    def trip(self) -> bool:
        """Open at once, as after an answer that shows the peer to be broken; True if it was not."""
        was_open = self.state is BreakerState.OPEN
        self._trips += 1
        self._resumes_at = self._clock() + self._pause(self._trips)
        return not was_open
