"""How fast requests end, measured at this router: what a refused client's waiting time is from."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

KEPT_ENDS = 32


class Pace:
    """The last ends. Other routers' are not seen: with n of them the true rate is up to n times."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: deque[float] = deque(maxlen=KEPT_ENDS)

    def note_end(self) -> None:
        """A request has ended now."""
        self._ends.append(self._clock())

    @property
    def requests_per_s(self) -> float | None:
        """Requests per second since the oldest end that is kept; None before there are two.

        Counted up to now, so that it sinks while nothing ends.
        """
        if len(self._ends) < 2:
            return None
        passed_s = self._clock() - self._ends[0]
        return (len(self._ends) - 1) / passed_s if passed_s > 0 else None
