"""Outage.LOCAL over the journal: who takes a job over in mid-outage ends it with the same text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hola.errors import Fenced, ProtocolViolation
from hola.transcript import Transcript
from hola.types import (
    Correction,
    Exactness,
    GenerateEvent,
    JournalEntry,
    Outage,
    Outcome,
    SpeculationParams,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)
from hola_drafter.history import History
from tests.support.drafter_world import IDLE_S, JOB, FarVerifier, World, check_one_end, lose_at
from tests.support.scripted_system import InProcessVerifier, plain_tokens

LOCAL = replace(JOB, speculation=SpeculationParams(max_draft_tokens=3, outage=Outage.LOCAL))


def read(events: list[GenerateEvent]) -> Transcript:
    transcript = Transcript()
    for event in events:
        transcript.note(event)
    return transcript


async def disturbed(world: World, lost_at: int, unverified: int) -> list[GenerateEvent]:
    """A request whose verifier is lost, and comes back when so many tokens were written alone."""
    verifier = lose_at(FarVerifier(), lost_at)
    world.device("a", verifier).start()
    await world.bus.jobs.publish(LOCAL)
    events, alone = [], 0
    async for entry in world.bus.journal.follow("r1"):
        events.append(entry.event)
        if isinstance(entry.event, Tokens):
            alone += sum(t.outcome is Outcome.UNVERIFIED for t in entry.event.tokens)
        if alone >= unverified:
            verifier.back.set()
    await world.until_empty()
    return events


@pytest.mark.parametrize("lost_at", [0, 2])
async def test_a_takeover_at_any_entry_ends_with_the_target_s_text(world, lost_at):
    expected = plain_tokens(LOCAL.sampling)
    whole = await disturbed(world, lost_at, 16)
    check_one_end(whole)
    assert any(isinstance(event, Correction) for event in whole)
    assert [token.token for token in read(whole).tokens] == expected
    for written in range(len(whole)):
        second = World()
        await second.bus.jobs.publish(LOCAL)
        dead = second.connect()
        assert await dead.jobs.take("dead", timeout_s=1) is not None
        for event in whole[:written]:
            await dead.journal.append("r1", JournalEntry(event=event, writer="dead"))
        second.now += IDLE_S
        heir = second.device("heir", InProcessVerifier())
        heir.start()
        events = await second.events()
        check_one_end(events)
        assert events[:written] == whole[:written]
        transcript = read(events)
        assert [token.token for token in transcript.tokens] == expected, f"after {written} entries"
        assert "".join(t.text for t in transcript.tokens) == "".join(
            t.text for t in read(whole).tokens
        )
        summary = events[-1]
        assert isinstance(summary, Summary)
        assert summary.completion_tokens == len(expected)
        assert summary.corrections == transcript.corrections
        assert summary.exactness is Exactness.EXACT
        await second.until_empty()
        await heir.stop()


async def test_an_heir_without_a_verifier_goes_on_writing(world):
    whole = await disturbed(world, 2, 16)
    first = next(
        at
        for at, event in enumerate(whole)
        if isinstance(event, Tokens) and event.tokens[0].outcome is Outcome.UNVERIFIED
    )
    second = World()
    await second.bus.jobs.publish(LOCAL)
    dead = second.connect()
    assert await dead.jobs.take("dead", timeout_s=1) is not None
    for event in whole[: first + 1]:
        await dead.journal.append("r1", JournalEntry(event=event, writer="dead"))
    second.now += IDLE_S
    verifier = FarVerifier()
    verifier.back.clear()
    heir = second.device("heir", verifier)
    heir.start()
    events = []
    async for entry in second.bus.journal.follow("r1"):
        events.append(entry.event)
        if entry.writer == "heir" and isinstance(entry.event, Tokens):
            assert verifier.back.is_set() or entry.event.tokens[0].outcome is Outcome.UNVERIFIED
            verifier.back.set()
    check_one_end(events)
    assert [token.token for token in read(events).tokens] == plain_tokens(LOCAL.sampling)
    await heir.stop()


async def test_one_of_two_writers_that_know_the_same_unverified_text_is_refused(world):
    """A drafter that was frozen while it wrote alone comes too late, whatever it wrote."""
    whole = await disturbed(world, 2, 16)
    second = World()
    await second.bus.jobs.publish(LOCAL)
    slow = second.connect()
    assert await slow.jobs.take("slow", timeout_s=1) is not None
    for event in whole[:3]:
        await slow.journal.append("r1", JournalEntry(event=event, writer="slow"))
    second.now += IDLE_S
    heir = second.device("heir", InProcessVerifier())
    heir.start()
    events = await second.events()
    with pytest.raises(Fenced):
        await slow.journal.append("r1", JournalEntry(event=whole[3], writer="slow"))
    assert await second.events() == events
    assert [token.token for token in read(events).tokens] == plain_tokens(LOCAL.sampling)
    await heir.stop()


STARTED = Started(
    request_id="r1", model="m", tiers=("tiny", "target"), fingerprint="",
    exactness=Exactness.UNVERIFIED, prompt_tokens=1,
)  # fmt: skip


def tokens(position: int, ids: str, outcome: Outcome = Outcome.UNVERIFIED) -> Tokens:
    return Tokens(
        position=position,
        tokens=tuple(
            TokenEvent(token=ord(text), text=text, tier=0, outcome=outcome) for text in ids
        ),
    )


def history(*events: GenerateEvent) -> History:
    return History.of(JournalEntry(event=event) for event in (STARTED, *events))


def test_history_tells_verified_from_unverified():
    known = history(tokens(0, "ab"), tokens(2, "cd"))
    assert (known.committed, len(known.unverified)) == ((), 4)
    known = history(
        tokens(0, "abcd"),
        Correction(position=3, fingerprint="f"),
        tokens(3, "x", Outcome.CORRECTED),
        tokens(4, "yz"),
    )
    assert [token.text for token in known.committed] == ["a", "b", "c", "x"]
    assert [token.outcome for token in known.committed[:3]] == [Outcome.ACCEPTED] * 3
    assert [token.text for token in known.unverified] == ["y", "z"]
    assert (known.fingerprint, known.corrections) == ("f", 1)


def test_gated_tokens_are_committed_though_unverified():
    gated = replace(STARTED, exactness=Exactness.GATED)
    known = History.of([JournalEntry(event=gated), JournalEntry(event=tokens(0, "ab"))])
    assert (len(known.committed), known.unverified) == (2, ())


@pytest.mark.parametrize(
    "events",
    [
        (tokens(1, "a"),),
        (tokens(0, "ab"), tokens(1, "b")),
        (tokens(0, "ab"), Correction(position=3)),
        (tokens(0, "ab"), tokens(2, "c", Outcome.PLAIN)),
    ],
    ids=["gap", "overlap", "correction past the end", "verified behind unverified"],
)
def test_a_journal_that_does_not_add_up_is_refused(events):
    with pytest.raises(ProtocolViolation):
        history(*events)
