"""When a second verifier is asked: after the time that 95 of the last 100 answers stayed under."""

from __future__ import annotations

from collections import deque

WINDOW = 100
FEWEST_SAMPLES = 20
_SHARE = 0.95


class HedgePolicy:
    """The measured p95 of answers. Pure; one per pool."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._seconds: deque[float] = deque(maxlen=WINDOW)

    @property
    def enabled(self) -> bool:
        """Whether HOLA_HEDGE asks for it."""
        return self._enabled

    def observe(self, seconds: float) -> None:
        """An answer took this long."""
        self._seconds.append(seconds)

    def after_s(self) -> float | None:
        """Seconds without an answer after which to ask a second verifier; None: never.

        Never while it is off, or too few answers have been seen to call any of them late.
        """
        if not self._enabled or len(self._seconds) < FEWEST_SAMPLES:
            return None
        ordered = sorted(self._seconds)
        return ordered[int(_SHARE * (len(ordered) - 1))]
