"""A stream with Corrections: whoever attaches, from wherever, ends with the tokens that hold."""

from __future__ import annotations

import pytest

from hola.bus.memory import MemoryBus
from hola.rpc.received import Received
from hola.transcript import Transcript
from hola.types import (
    Correction,
    Exactness,
    FinishReason,
    GenerateEvent,
    JournalEntry,
    Outcome,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)
from tests.unit.router.test_generate import REQUEST, make_router


def tokens(position: int, text: str, outcome: Outcome = Outcome.UNVERIFIED) -> Tokens:
    return Tokens(
        position=position,
        tokens=tuple(
            TokenEvent(token=ord(char), text=char, tier=0, outcome=outcome) for char in text
        ),
    )


JOURNAL: tuple[GenerateEvent, ...] = (
    Started(
        request_id="r1", model="m", tiers=("tiny", "target"), fingerprint="",
        exactness=Exactness.UNVERIFIED, prompt_tokens=1,
    ),
    tokens(0, "abX"),
    tokens(3, "YZ"),
    Correction(position=2, fingerprint="f"),
    tokens(2, "cd", Outcome.PLAIN),
    tokens(4, "eQQ"),
    Correction(position=5, fingerprint="f"),
    tokens(5, "f", Outcome.CORRECTED),
    Summary(
        finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=6, corrections=2
    ),
)  # fmt: skip


@pytest.fixture
async def router(tmp_path):
    bus = MemoryBus()
    router = make_router(bus, tmp_path)
    await router.accept(REQUEST)
    for event in JOURNAL:
        await bus.journal.append("r1", JournalEntry(event=event, writer="d"))
    yield router
    await router.close()


async def resumed(router, position: int) -> list[GenerateEvent]:
    return [event async for event in router.resume("r1", position)]


async def test_from_the_start_everything_comes(router):
    assert await resumed(router, 0) == list(JOURNAL)


@pytest.mark.parametrize("position", range(8))
async def test_from_any_position_on_the_text_is_whole(router, position):
    """Of 7 tokens received, the last ones may be void by now: a Correction says so."""
    events = await resumed(router, position)
    transcript = Transcript(first=position)
    for event in events[1:]:
        transcript.note(event)
    assert [event for event in events if isinstance(event, Correction)] == [
        JOURNAL[3], JOURNAL[6],
    ]  # fmt: skip
    first = min(position, 2)
    assert transcript.first == first
    assert "".join(token.text for token in transcript.tokens) == "abcdef"[first:]


@pytest.mark.parametrize("seen", range(1, len(JOURNAL)))
async def test_a_client_that_comes_back_after_any_event_gets_only_what_is_new(router, seen):
    received = Received()
    got = [new for event in JOURNAL[:seen] for new in received.add(event)]
    received.connect()
    for event in await resumed(router, received.settled):
        got += received.add(event)
    assert got == list(JOURNAL)
