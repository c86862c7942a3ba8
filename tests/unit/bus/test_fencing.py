"""Any interleaving of writers that come, stall and come back leaves one gapless journal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from hypothesis import given, settings, strategies as st

from hola.bus.memory import MemoryBus, MemoryStore
from hola.bus.rules import Continuity
from hola.errors import Fenced
from hola.types import Correction, GenerateEvent, Summary
from tests.support.bus import by, failure, job, standing_ids, summary, token_ids, tokens, unverified

WRITERS = 3
LENGTH = 40


@dataclass(slots=True)
class Writer:
    """A drafter: how far it believes the output to be, and whether it is still at it."""

    name: str
    bus: MemoryBus
    position: int = 0
    is_running: bool = False


async def act(writer: Writer, action: str, count: int) -> None:
    """One step of a writer. Only "take" starts one; being fenced, or the end, stops it."""
    if action == "take":
        entries = await writer.bus.journal.read("r1")
        writer.position = len(token_ids(entries))
        writer.is_running = not (entries and isinstance(entries[-1].event, Summary))
    elif writer.is_running:
        count = min(count, LENGTH - writer.position)
        event: GenerateEvent = tokens(writer.position, count) if count else summary(LENGTH)
        writer.is_running = count > 0
        try:
            await writer.bus.journal.append("r1", by(writer.name, event))
        except Fenced:
            writer.is_running = False
        writer.position += count


steps = st.lists(
    st.tuples(
        st.integers(0, WRITERS - 1), st.sampled_from(["take", "write", "write"]), st.integers(1, 7)
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_any_interleaving_leaves_one_gapless_journal(plan: list[tuple[int, str, int]]) -> None:
    async def run() -> None:
        store = MemoryStore()
        writers = [Writer(f"w{i}", MemoryBus(store=store)) for i in range(WRITERS)]
        reader = MemoryBus(store=store)
        await reader.jobs.publish(job())
        for index, action, count in plan:
            await act(writers[index], action, count)
            entries = await reader.journal.read("r1")  # raises on a gap
            assert token_ids(entries) == list(range(len(token_ids(entries))))
        # Whatever happened, the next owner brings it to its end, once.
        heir = Writer("heir", MemoryBus(store=store))
        await act(heir, "take", 0)
        while heir.is_running:
            await act(heir, "write", 7)
        entries = await reader.journal.read("r1")
        assert token_ids(entries) == list(range(LENGTH))
        assert [isinstance(entry.event, Summary) for entry in entries].count(True) == 1
        assert isinstance(entries[-1].event, Summary)

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(steps)
def test_a_writer_that_lost_the_journal_cannot_end_it(plan: list[tuple[int, str, int]]) -> None:
    async def run() -> None:
        store = MemoryStore()
        stale, owner = (Writer(name, MemoryBus(store=store)) for name in ("stale", "owner"))
        await stale.bus.jobs.publish(job())
        await act(stale, "take", 0)
        for _, _, count in plan[: LENGTH // 14]:
            await act(stale, "write", count)
        await act(owner, "take", 0)
        await act(owner, "write", 3)
        try:
            await stale.bus.journal.append("r1", by("stale", failure()))
        except Fenced:
            return
        raise AssertionError("the stale writer's failure ended the owner's journal")

    asyncio.run(run())


@dataclass(slots=True)
class LocalWriter:
    """A drafter under Outage.LOCAL: its unverified tokens are its own, whatever others wrote."""

    number: int
    bus: MemoryBus
    known: Continuity = field(default_factory=Continuity)
    is_running: bool = False

    async def act(self, action: str, count: int) -> None:
        """One step. Only "take" starts a writer; being fenced, or the end, stops it."""
        if action == "take":
            entries = await self.bus.journal.read("r1")
            self.known = Continuity()
            for entry in entries:
                self.known.check(entry)
            self.is_running = not (entries and isinstance(entries[-1].event, Summary))
        elif self.is_running:
            event = self._next(action, count)
            try:
                await self.bus.journal.append("r1", by(f"w{self.number}", event))
            except Fenced:
                self.is_running = False
                return
            self.known.check(by("", event))
            self.is_running = not isinstance(event, Summary)

    def _next(self, action: str, count: int) -> GenerateEvent:
        written, settled = self.known.written, self.known.known.settled
        if written > settled and (action == "settle" or written == LENGTH):
            return Correction(position=min(settled + count, written))
        count = min(count, LENGTH - written)
        if count == 0:
            return summary(LENGTH)
        if action == "local" or written > settled:
            guess = unverified(written, count)
            marked = tuple(replace(t, token=1000 * (self.number + 1)) for t in guess.tokens)
            return replace(guess, tokens=marked)
        return tokens(written, count)


local_steps = st.lists(
    st.tuples(
        st.integers(0, WRITERS - 1),
        st.sampled_from(["take", "settle", "settle", "local", "local"]),
        st.integers(1, 7),
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(local_steps)
def test_any_interleaving_of_local_writers_leaves_one_history(
    plan: list[tuple[int, str, int]],
) -> None:
    async def run() -> None:
        store = MemoryStore()
        writers = [LocalWriter(i, MemoryBus(store=store)) for i in range(WRITERS)]
        reader = MemoryBus(store=store)
        await reader.jobs.publish(job())
        for index, action, count in plan:
            before = await reader.journal.read("r1")
            await writers[index].act(action, count)
            entries = await reader.journal.read("r1")  # raises on a gap or a settled correction
            assert entries[: len(before)] == before, "what was written stays written"
            assert len(entries) <= len(before) + 1
        heir = LocalWriter(WRITERS, MemoryBus(store=store))
        await heir.act("take", 0)
        while heir.is_running:
            await heir.act("settle", 7)
        entries = await reader.journal.read("r1")
        assert len(standing_ids(entries)) == LENGTH
        assert [isinstance(entry.event, Summary) for entry in entries].count(True) == 1

    asyncio.run(run())
