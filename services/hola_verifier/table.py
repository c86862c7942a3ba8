"""Which sessions hold a KV cache, who is attached to them, and who has to go: no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from hola.errors import MemoryBudgetExceeded, Overloaded

T = TypeVar("T")
RETRY_AFTER_MS = 1000


@dataclass(slots=True, kw_only=True, eq=False)
class Entry(Generic[T]):
    """One session. `owner` is the stream attached to it, None while it only waits to come back.

    `running` counts the engine jobs under way for it; `cache` is None until it is allocated.
    """

    session_id: str
    capacity: int
    kv_bytes: int
    used_ns: int
    owner: object | None
    cache: T | None = None
    running: int = 0


class SessionTable(Generic[T]):
    """Sessions by id, within a number and a byte budget. Use from one event loop."""

    def __init__(self, *, max_sessions: int, kv_budget_bytes: int, ttl_ns: int) -> None:
        self._max_sessions = max_sessions
        self._kv_budget_bytes = kv_budget_bytes
        self._ttl_ns = ttl_ns
        self._entries: dict[str, Entry[T]] = {}
        self._kv_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def attached(self) -> int:
        """Sessions with a stream."""
        return sum(entry.owner is not None for entry in self._entries.values())

    @property
    def kv_bytes(self) -> int:
        """Bytes of all sessions' caches."""
        return self._kv_bytes

    @property
    def kv_budget_bytes(self) -> int:
        """Most bytes the caches may take together."""
        return self._kv_budget_bytes

    def get(self, session_id: str) -> Entry[T] | None:
        """The session of this id."""
        return self._entries.get(session_id)

    def entries(self) -> list[Entry[T]]:
        """All sessions."""
        return list(self._entries.values())

    def admit(self, entry: Entry[T]) -> list[Entry[T]]:
        """Add a session; returns those that had to go for it, least recently used first.

        Only sessions without a stream go. Raises MemoryBudgetExceeded when it can never fit,
        Overloaded when it does not fit now; nothing has changed then.
        """
        if entry.kv_bytes > self._kv_budget_bytes:
            raise MemoryBudgetExceeded(
                f"a session of {entry.capacity} tokens needs {entry.kv_bytes} bytes of KV cache,"
                f" all sessions together may take {self._kv_budget_bytes}",
                needed_bytes=entry.kv_bytes,
                available_bytes=self._kv_budget_bytes,
            )
        evicted = self._make_room(entry.kv_bytes)
        for gone in evicted:
            self.remove(gone)
        self._entries[entry.session_id] = entry
        self._kv_bytes += entry.kv_bytes
        return evicted

    def remove(self, entry: Entry[T]) -> bool:
        """Forget a session; False when it was gone or its id has a new session by now."""
        if self._entries.get(entry.session_id) is not entry:
            return False
        del self._entries[entry.session_id]
        self._kv_bytes -= entry.kv_bytes
        return True

    def waiting(self) -> list[Entry[T]]:
        """Sessions without a stream, least recently used first."""
        found = [entry for entry in self._entries.values() if entry.owner is None]
        return sorted(found, key=lambda entry: entry.used_ns)

    def expired(self, now_ns: int) -> list[Entry[T]]:
        """Sessions with no job under way and no message for longer than the time to live."""
        return [
            entry
            for entry in self._entries.values()
            if not entry.running and now_ns - entry.used_ns > self._ttl_ns
        ]

    def _make_room(self, kv_bytes: int) -> list[Entry[T]]:
        waiting = self.waiting()
        evicted: list[Entry[T]] = []
        count, used = len(self._entries), self._kv_bytes
        while count >= self._max_sessions or used + kv_bytes > self._kv_budget_bytes:
            if not waiting:
                raise Overloaded(
                    f"{len(self._entries)} sessions hold {self._kv_bytes} bytes of KV cache"
                    f" (limits: {self._max_sessions} sessions, {self._kv_budget_bytes} bytes)",
                    retry_after_ms=RETRY_AFTER_MS,
                    sessions=len(self._entries),
                    max_sessions=self._max_sessions,
                    needed_bytes=kv_bytes,
                    available_bytes=self._kv_budget_bytes - self._kv_bytes,
                )
            evicted.append(waiting.pop(0))
            count -= 1
            used -= evicted[-1].kv_bytes
        return evicted
