"""How long a peer has owed an answer without a sign of life: decides, has no timer of its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Silence(Generic[K]):
    """The questions one peer has not answered, and when it was heard last.

    `clock` gives monotonic seconds; `limit_s` is the silence after which the peer must be asked
    whether it lives. A peer that owes nothing may be silent for ever.
    """

    def __init__(self, clock: Callable[[], float], limit_s: float) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._asked: dict[K, float] = {}
        self._heard_at = clock()

    @property
    def owed(self) -> int:
        """Questions without an answer."""
        return len(self._asked)

    def asked(self, key: K) -> None:
        """A question went out under `key`."""
        self._asked.pop(key, None)
        self._asked[key] = self._clock()

    def forget(self, key: K) -> float | None:
        """The question is answered, or nobody waits any more: its age; None if there was none."""
        began = self._asked.pop(key, None)
        return None if began is None else self._clock() - began

    def heard(self) -> None:
        """The peer has said something, whatever it was."""
        self._heard_at = self._clock()

    def heard_since(self, moment: float) -> bool:
        """Whether the peer has said anything at or after `moment` of the clock."""
        return self._heard_at >= moment

    def left_s(self) -> float | None:
        """Seconds until the silence has lasted too long, 0.0 if it has; None if nothing is owed."""
        if not self._asked:
            return None
        oldest = next(iter(self._asked.values()))
        return max(0.0, self._limit_s - (self._clock() - max(oldest, self._heard_at)))

    def older_than(self, age_s: float) -> list[K]:
        """The questions that have waited for longer than `age_s`, signs of life or not."""
        now = self._clock()
        return [key for key, began in self._asked.items() if now - began > age_s]
