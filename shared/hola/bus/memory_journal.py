"""Token journals in memory; behaves as hola.bus.redis_journal."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from hola.bus import rules
from hola.bus.memory_store import MemoryStore, StoredJournal
from hola.bus.rules import Continuity, KnownEnds
from hola.bus.streams import CANCEL_ID, SEAL_ID, BusLimits, entry_id, is_terminal, parse_id
from hola.convert import decode_entry, encode_entry
from hola.errors import BusUnavailable
from hola.types import JournalEntry


class MemoryJournal:
    """ports.Journal in memory."""

    def __init__(self, store: MemoryStore, limits: BusLimits) -> None:
        self._store = store
        self._limits = limits
        self._known = KnownEnds()
        self.is_closed = False

    async def append(self, request_id: str, entry: JournalEntry) -> None:
        """Write the next event; `hola.bus.streams` has the position rule.

        A Failure's position is that after the tokens this bus has written or read. Raises Fenced
        when the position, or the end, has been written already or the journal is not where its
        writer left it; UnknownRequest; Overloaded at the entry limit (an end always fits);
        ProtocolViolation on an event the contract rules out.
        """
        known = self._known.get(request_id)
        self._write(request_id, entry_id(entry, known), entry, known.last_id if known else "")

    async def cancel(self, request_id: str) -> bool:
        """End the request past every position, so that its drafter's next append is Fenced.

        False when it had ended already. Raises UnknownRequest.
        """
        return self.end(request_id, rules.cancellation)

    def end(
        self, request_id: str, ending: Callable[[Sequence[JournalEntry]], JournalEntry]
    ) -> bool:
        """Write an ending made of all entries before it; False when the journal had ended.

        Raises UnknownRequest.
        """
        _, entries = self._load(request_id)
        if entries and is_terminal(entries[-1]):
            return False
        self._write(request_id, CANCEL_ID, ending(entries), "")
        return True

    async def has_ended(self, request_id: str) -> bool:
        """Whether the terminal entry is written, or the journal is gone."""
        journal = self._store.journal(request_id)
        return journal is None or journal.last_id == SEAL_ID

    async def owner(self, request_id: str) -> str:
        """The tenant that published the request. Raises UnknownRequest."""
        return self._existing(request_id).owner

    async def digest(self, request_id: str) -> str:
        """The `request_digest` of the job it was published with. Raises UnknownRequest."""
        return self._existing(request_id).digest

    async def attend(self, request_id: str, for_s: float) -> None:
        """Note that a client is attached to the request, at some router, for the next seconds."""
        self._store.attend(request_id, for_s)

    async def is_attended(self, request_id: str) -> bool:
        """Whether a note of `attend` still holds."""
        return self._store.is_attended(request_id)

    async def read(self, request_id: str) -> list[JournalEntry]:
        """Everything written so far; empty when unknown. The caller may go on writing from there.

        Raises ProtocolViolation on an entry that cannot be read.
        """
        ids, entries = self._load(request_id)
        continuity = Continuity()
        for position, entry in zip(ids, entries, strict=True):
            continuity.check(entry, position)
        self._known.set(request_id, continuity.known)
        return entries

    async def follow(self, request_id: str) -> AsyncGenerator[JournalEntry]:
        """Everything from the start on, waiting for more until the terminal event.

        Raises UnknownRequest when it was never published or has expired, ProtocolViolation on an
        entry that cannot be read, BusUnavailable when the bus is closed.
        """
        continuity, index, journal = Continuity(), 0, self._existing(request_id)
        while not self.is_closed:
            if self._store.journal(request_id) is not journal:
                raise rules.unknown(request_id)  # expired, or replaced by a replay
            if index == len(journal.entries):
                await journal.changed.wait(self._limits.block_s)
                continue
            entry = continuity.check(decode_entry(journal.entries[index][1]))
            index += 1
            yield entry
            if is_terminal(entry):
                return
        raise BusUnavailable("the bus is closed", url="memory:")

    def _write(self, request_id: str, position: str, entry: JournalEntry, last_id: str) -> None:
        payload = encode_entry(entry)
        journal = self._existing(request_id)
        is_moved = bool(last_id) and last_id != journal.last_id
        if is_moved or parse_id(position) <= parse_id(journal.last_id):
            raise rules.fenced(request_id, position)
        ended = is_terminal(entry)
        if not ended and len(journal.entries) >= self._limits.journal_limit:
            raise rules.journal_full(self._limits.journal_limit)
        journal.entries.append((position, payload))
        journal.last_id = SEAL_ID if ended else position
        ttl_s = self._limits.journal_ttl_s if ended else self._limits.running_ttl_s
        journal.expires_at = self._store.clock() + ttl_s
        journal.changed.set()
        self._known.advance(request_id, position, entry)

    def _existing(self, request_id: str) -> StoredJournal:
        journal = self._store.journal(request_id)
        if journal is None:
            raise rules.unknown(request_id)
        return journal

    def _load(self, request_id: str) -> tuple[list[str], list[JournalEntry]]:
        journal = self._store.journal(request_id)
        stored = journal.entries if journal is not None else []
        return [each[0] for each in stored], [decode_entry(each[1]) for each in stored]
