"""Token journals as Redis streams whose entry ids are output positions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import cast

from hola.bus import journal_scripts, rules
from hola.bus.redis_follow import JournalReader
from hola.bus.redis_link import Argument, RawEntry, RedisLink, milliseconds
from hola.bus.rules import Continuity, KnownEnds, Orphan
from hola.bus.streams import (
    CANCEL_ID,
    PAYLOAD_FIELD,
    SEAL_ID,
    START_ID,
    Known,
    entry_id,
    is_terminal,
)
from hola.convert import decode_entry, encode_entry
from hola.errors import BusUnavailable, Fenced
from hola.types import GenerateJob, JournalEntry

READ_CHUNK = 512
MAX_RACES = 32


class RedisJournal:
    """ports.Journal on Redis streams: XADD with the position as id is what fences writers.

    A drafter that goes on with another one's journal calls `read` first: from then on its appends
    must find the journal where that read, or its own last append, left it.
    """

    def __init__(self, link: RedisLink, reader: JournalReader) -> None:
        self._link = link
        self._reader = reader
        self._known = KnownEnds()
        self._append = link.script(journal_scripts.APPEND)
        self._create = link.script(journal_scripts.CREATE)
        self._discard = link.script(journal_scripts.DISCARD)
        self._extend = link.script(journal_scripts.EXTEND)

    async def create(
        self, job: GenerateJob, payload: bytes, nonce: str, *, is_replay: bool
    ) -> Orphan | None:
        """Make the empty journal of a request, its owner beside it; None when that is done.

        Else the id is taken, and the answer has the job that was published where nothing has been
        written yet. `nonce` is one publication's own: repeated with it, this is done already. A
        replay takes the place of a journal that has ended. Raises BusUnavailable.
        """
        running_ms = milliseconds(self._link.limits.running_ttl_s)
        arguments: list[Argument] = [nonce, job.tenant, job.request_digest, payload, running_ms]
        ended = SEAL_ID if is_replay else ""
        reply = await self._link.call(
            lambda _: self._create(self._keys(job.request_id), [*arguments, ended])
        )
        if reply[0] == b"OK":
            return None
        return Orphan(reply[2].decode(), reply[1]) if len(reply) > 1 else Orphan()

    async def discard(self, request_id: str, nonce: str) -> bool:
        """Take back what `create` made; False when somebody has written to it, or owns it now."""
        keys = self._keys(request_id)
        reply: bytes = await self._link.call(lambda _: self._discard(keys, [nonce]))
        return reply == b"OK"

    async def extend(self, request_id: str) -> None:
        """Keep a running journal for running_ttl_s from now. Raises BusUnavailable."""
        running_ms = milliseconds(self._link.limits.running_ttl_s)
        await self._link.call(lambda _: self._extend(self._keys(request_id), [running_ms, SEAL_ID]))

    async def append(self, request_id: str, entry: JournalEntry) -> None:
        """Write the next event; `hola.bus.streams.entry_id` has the position rule.

        A Failure's position is that after the tokens this process has written or read. Raises
        Fenced when the position, or the end, has been written already or the journal is not where
        its writer left it; UnknownRequest; Overloaded at the entry limit (an end always fits);
        ProtocolViolation on an event that the contract rules out; BusUnavailable.
        """
        known = self._known.get(request_id)
        await self._write(request_id, entry_id(entry, known), entry, known)

    async def cancel(self, request_id: str) -> bool:
        """End the request past every position, so that its drafter's next append is Fenced.

        False when it had ended already. Raises UnknownRequest, BusUnavailable.
        """
        return await self.end(request_id, rules.cancellation)

    async def end(
        self, request_id: str, ending: Callable[[Sequence[JournalEntry]], JournalEntry]
    ) -> bool:
        """Write an ending made of all entries before it; False when the journal had ended.

        Raises UnknownRequest, and BusUnavailable also when a writer was faster MAX_RACES times.
        """
        ids: list[str] = []
        entries: list[JournalEntry] = []
        for _ in range(MAX_RACES):
            # Only what is new: reading everything again would lose every race in a long journal.
            more_ids, more = await self._load(request_id, after=ids[-1] if ids else "")
            ids, entries = ids + more_ids, entries + more
            if entries and is_terminal(entries[-1]):
                return False
            known = Known(ids[-1] if ids else START_ID)
            try:
                await self._write(request_id, CANCEL_ID, ending(entries), known)
            except Fenced:
                continue  # an append got in between: count it too
            return True
        raise BusUnavailable(f"journal of {request_id} is written faster than it can be read")

    async def has_ended(self, request_id: str) -> bool:
        """Whether the terminal entry is written, or the journal is gone. Raises BusUnavailable."""
        key = self._link.keys.journal(request_id)
        found = await self._link.call(lambda _: self._link.commands.xrevrange(key, count=1))
        last = cast(list[RawEntry], found)
        if last:
            return is_terminal(decode_entry(last[0][1].get(PAYLOAD_FIELD, b"")))
        return not await self._link.call(lambda _: self._link.commands.exists(key))

    async def owner(self, request_id: str) -> str:
        """The tenant that published the request. Raises UnknownRequest, BusUnavailable."""
        return await self._field(request_id, "tenant")

    async def digest(self, request_id: str) -> str:
        """The `request_digest` of the job it was published with. Raises as `owner`."""
        return await self._field(request_id, "digest")

    async def attend(self, request_id: str, for_s: float) -> None:
        """Note that a client is attached to the request, at some router, for the next seconds.

        Raises BusUnavailable.
        """
        key, for_ms = self._link.keys.attended(request_id), milliseconds(for_s)
        await self._link.call(lambda _: self._link.commands.set(key, b"1", px=for_ms))

    async def is_attended(self, request_id: str) -> bool:
        """Whether a note of `attend` still holds. Raises BusUnavailable."""
        key = self._link.keys.attended(request_id)
        return bool(await self._link.call(lambda _: self._link.commands.exists(key)))

    async def read(self, request_id: str) -> list[JournalEntry]:
        """Everything written so far; empty when unknown. The caller may go on writing from there.

        Raises ProtocolViolation on an entry that cannot be read, BusUnavailable.
        """
        ids, entries = await self._load(request_id)
        continuity = Continuity()
        for position, entry in zip(ids, entries, strict=True):
            continuity.check(entry, position)
        self._known.set(request_id, continuity.known)
        return entries

    def follow(self, request_id: str) -> AsyncGenerator[JournalEntry]:
        """Everything from the start on, waiting for more until the terminal event.

        Raises UnknownRequest when it was never published or has expired, ProtocolViolation on an
        entry that cannot be read, BusUnavailable when Redis stays away for reconnect_s or lost
        entries.
        """
        return self._reader.follow(request_id)

    def _keys(self, request_id: str) -> list[str]:
        return [self._link.keys.journal(request_id), self._link.keys.request(request_id)]

    async def _field(self, request_id: str, name: str) -> str:
        key = self._link.keys.request(request_id)
        found: bytes | None = await self._link.call(lambda _: self._link.commands.hget(key, name))
        if found is None:
            raise rules.unknown(request_id)
        return found.decode()

    async def _write(
        self, request_id: str, position: str, entry: JournalEntry, known: Known | None
    ) -> None:
        limits, ended = self._link.limits, is_terminal(entry)
        ttl = milliseconds(limits.journal_ttl_s if ended else limits.running_ttl_s)
        payload, last_id = encode_entry(entry), known.last_id if known else ""
        keys = self._keys(request_id)

        async def write(is_repeated: bool) -> bytes:
            arguments: list[Argument] = [position, payload, ttl, int(ended), limits.journal_limit]
            found: bytes = await self._append(
                keys, [*arguments, last_id, int(is_repeated), SEAL_ID]
            )
            return found

        reply = await self._link.call(write)
        if reply == b"FENCED":
            raise rules.fenced(request_id, position)
        if reply == b"UNKNOWN":
            raise rules.unknown(request_id)
        if reply == b"FULL":
            raise rules.journal_full(limits.journal_limit)
        self._known.advance(request_id, position, entry)

    async def _load(
        self, request_id: str, *, after: str = ""
    ) -> tuple[list[str], list[JournalEntry]]:
        """Ids and entries behind the one with the id `after`, from the start without one."""
        key = self._link.keys.journal(request_id)
        ids: list[str] = []
        entries: list[JournalEntry] = []
        start = f"({after}" if after else "-"
        while True:
            chunk = await self._link.entries(key, start, "+", READ_CHUNK)
            ids += [raw_id.decode() for raw_id, _ in chunk]
            entries += [decode_entry(fields.get(PAYLOAD_FIELD, b"")) for _, fields in chunk]
            if len(chunk) < READ_CHUNK:
                return ids, entries
            start = f"({ids[-1]}"
