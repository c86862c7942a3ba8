"""Where each troubled session has failed already, so that it is sent elsewhere next; bounded."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field

MOST_SESSIONS = 1024
# Refusals of one session for each address that could not be asked, before it is given up.
_CHANCES = 2


@dataclass(slots=True)
class _Record:
    failed: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)


class Trouble:
    """Addresses by session, from a session's first failure to its next verdict."""

    def __init__(self, most_sessions: int = MOST_SESSIONS) -> None:
        self._most = most_sessions
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def note(self, session_id: str, address: str) -> None:
        """The session has failed at this address. The oldest sessions are forgotten first."""
        if session_id:
            self._note(session_id, address)

    def refused(self, session_id: str, address: str, known: Collection[str]) -> bool:
        """The session has been refused at this address; whether that is the last word.

        It is when all `known` addresses have refused it. One that could not be reached has not:
        it is waited for, while others refuse again, for a few refusals.
        """
        if not session_id:
            return True
        refusals = self._note(session_id, address).refusals
        refusals[address] += 1
        missing = sum(each not in refusals for each in known)
        return refusals.total() > len(refusals) - 1 + _CHANCES * missing

    def of(self, session_id: str) -> tuple[str, ...]:
        """Where it has failed, the last one last; empty for a session without trouble."""
        record = self._records.get(session_id)
        return () if record is None else tuple(record.failed)

    def over(self, session_id: str) -> None:
        """The session has got a verdict."""
        self._records.pop(session_id, None)

    def _note(self, session_id: str, address: str) -> _Record:
        record = self._records.setdefault(session_id, _Record())
        if address in record.failed:
            record.failed.remove(address)
        record.failed.append(address)
        self._records.move_to_end(session_id)
        if len(self._records) > self._most:
            self._records.popitem(last=False)
        return record
