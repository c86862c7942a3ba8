"""Which sessions hold a KV cache, who is attached to them, and who has to go: no I/O, no clock.

A session belongs to a tenant: another tenant's session of the same id is another session. When
room must be made, the tenant with the most idle sessions gives one up first, its oldest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from hola.errors import MemoryBudgetExceeded, Overloaded
from hola.types import DEFAULT_TENANT

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
    tenant: str = DEFAULT_TENANT

    @property
    def key(self) -> str:
        """Names it among all tenants' sessions; also its lane on the engine worker."""
        return session_key(self.tenant, self.session_id)


def session_key(tenant: str, session_id: str) -> str:
    """One name per tenant and id; a tenant's name has no slash."""
    return f"{tenant}/{session_id}"


class SessionTable(Generic[T]):
    """Sessions by tenant and id, within a number and a byte budget. Use from one event loop.

    A session whose stream says nothing for `spare_ns` may have to go for another one; one without
    a stream at once.
    """

    def __init__(
        self, *, max_sessions: int, kv_budget_bytes: int, ttl_ns: int, spare_ns: int | None = None
    ) -> None:
        """`spare_ns` None is `ttl_ns`."""
        self._max_sessions = max_sessions
        self._kv_budget_bytes = kv_budget_bytes
        self._ttl_ns = ttl_ns
        self._spare_ns = ttl_ns if spare_ns is None else spare_ns
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

    def get(self, session_id: str, tenant: str = DEFAULT_TENANT) -> Entry[T] | None:
        """The tenant's session of this id."""
        return self._entries.get(session_key(tenant, session_id))

    def entries(self) -> list[Entry[T]]:
        """All sessions."""
        return list(self._entries.values())

    def admit(self, entry: Entry[T]) -> list[Entry[T]]:
        """Add a session; returns those that had to go for it, in `idle` order.

        `entry.used_ns` is the time now. Raises MemoryBudgetExceeded when it can never fit,
        Overloaded when it does not fit now; nothing has changed then.
        """
        if entry.kv_bytes > self._kv_budget_bytes:
            raise MemoryBudgetExceeded(
                f"a session of {entry.capacity} tokens needs {entry.kv_bytes} bytes of KV cache,"
                f" all sessions together may take {self._kv_budget_bytes}",
                needed_bytes=entry.kv_bytes,
                available_bytes=self._kv_budget_bytes,
            )
        evicted = self._make_room(entry.kv_bytes, entry.used_ns)
        for gone in evicted:
            self.remove(gone)
        self._entries[entry.key] = entry
        self._kv_bytes += entry.kv_bytes
        return evicted

    def remove(self, entry: Entry[T]) -> bool:
        """Forget a session; False when it was gone or its id has a new session by now."""
        if self._entries.get(entry.key) is not entry:
            return False
        del self._entries[entry.key]
        self._kv_bytes -= entry.kv_bytes
        return True

    def idle(self, now_ns: int) -> list[Entry[T]]:
        """Sessions that may go for others, in that order.

        First those without a stream, then those whose stream has said nothing for `spare_ns`;
        among each, in turn the oldest of the tenant that has most of them.
        """
        entries = self._entries.values()
        waiting = [entry for entry in entries if entry.owner is None]
        silent = [
            entry
            for entry in entries
            if entry.owner is not None
            and not entry.running
            and now_ns - entry.used_ns > self._spare_ns
        ]
        return [*_fairly(waiting), *_fairly(silent)]

    def expired(self, now_ns: int) -> list[Entry[T]]:
        """Sessions with no job under way and no message for longer than the time to live."""
        return [
            entry
            for entry in self._entries.values()
            if not entry.running and now_ns - entry.used_ns > self._ttl_ns
        ]

    def _make_room(self, kv_bytes: int, now_ns: int) -> list[Entry[T]]:
        idle: list[Entry[T]] | None = None
        evicted: list[Entry[T]] = []
        count, used = len(self._entries), self._kv_bytes
        while count >= self._max_sessions or used + kv_bytes > self._kv_budget_bytes:
            if idle is None:
                idle = self.idle(now_ns)
            if not idle:
                raise Overloaded(
                    f"{len(self._entries)} sessions hold {self._kv_bytes} bytes of KV cache"
                    f" (limits: {self._max_sessions} sessions, {self._kv_budget_bytes} bytes)",
                    retry_after_ms=RETRY_AFTER_MS,
                    sessions=len(self._entries),
                    max_sessions=self._max_sessions,
                    needed_bytes=kv_bytes,
                    available_bytes=self._kv_budget_bytes - self._kv_bytes,
                )
            evicted.append(idle.pop(0))
            count -= 1
            used -= evicted[-1].kv_bytes
        return evicted


def _fairly(entries: Iterable[Entry[T]]) -> list[Entry[T]]:
    """Each time the least recently used session of the tenant with most sessions left."""
    left = sorted(entries, key=lambda entry: entry.used_ns)
    counts = Counter(entry.tenant for entry in left)
    ordered: list[Entry[T]] = []
    while left:
        most = max(counts[entry.tenant] for entry in left)
        chosen = next(entry for entry in left if counts[entry.tenant] == most)
        left.remove(chosen)
        counts[chosen.tenant] -= 1
        ordered.append(chosen)
    return ordered
