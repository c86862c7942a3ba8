"""Where each troubled session has failed already, so that it is sent elsewhere next; bounded."""

from __future__ import annotations

from collections import OrderedDict

MOST_SESSIONS = 1024


class Trouble:
    """Addresses by session, from a session's first failure to its next verdict."""

    def __init__(self, most_sessions: int = MOST_SESSIONS) -> None:
        self._most = most_sessions
        self._failed: OrderedDict[str, list[str]] = OrderedDict()

    def note(self, session_id: str, address: str) -> None:
        """The session has failed at this address. The oldest sessions are forgotten first."""
        if not session_id:
            return
        addresses = self._failed.setdefault(session_id, [])
        if address in addresses:
            addresses.remove(address)
        addresses.append(address)
        self._failed.move_to_end(session_id)
        if len(self._failed) > self._most:
            self._failed.popitem(last=False)

    def of(self, session_id: str) -> tuple[str, ...]:
        """Where it has failed, the last one last; empty for a session without trouble."""
        return tuple(self._failed.get(session_id, ()))

    def over(self, session_id: str) -> None:
        """The session has got a verdict."""
        self._failed.pop(session_id, None)
