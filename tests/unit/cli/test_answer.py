"""A stream becomes an answer; a failed or broken one becomes the error it tells of."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hola.errors import PromptTooLong, ProtocolViolation
from hola.types import (
    Correction,
    Exactness,
    Failure,
    FinishReason,
    GenerateEvent,
    Outcome,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)
from hola_cli.answer import receive

STARTED = Started(
    request_id="r", model="m", tiers=("draft", "target"), fingerprint="", prompt_tokens=1,
    exactness=Exactness.EXACT,
)  # fmt: skip
SUMMARY = Summary(finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=2)
TOKENS = (
    TokenEvent(token=5, text="He", tier=0, outcome=Outcome.ACCEPTED),
    TokenEvent(token=6, text="llo", tier=1, outcome=Outcome.BONUS),
)


async def stream(*events: GenerateEvent) -> AsyncIterator[GenerateEvent]:
    for event in events:
        yield event


class Recorder:
    def __init__(self) -> None:
        self.events: list[GenerateEvent] = []

    def show(self, event: GenerateEvent) -> None:
        self.events.append(event)


async def test_an_answer_has_ids_text_and_summary_and_every_event_was_shown():
    events = (STARTED, Tokens(position=0, tokens=TOKENS), SUMMARY)
    screen = Recorder()
    answer = await receive(stream(*events), screen)
    assert (answer.ids, answer.text) == ((5, 6), "Hello")
    assert (answer.started, answer.summary) == (STARTED, SUMMARY)
    assert tuple(screen.events) == events


async def test_an_answer_has_the_tokens_that_hold():
    wrong = TokenEvent(token=9, text="y", tier=0, outcome=Outcome.UNVERIFIED)
    answer = await receive(
        stream(
            STARTED,
            Tokens(position=3, tokens=(wrong,)),
            Correction(position=3),
            Tokens(position=3, tokens=TOKENS),
            SUMMARY,
        ),
        position=3,
    )
    assert (answer.ids, answer.text) == ((5, 6), "Hello")


async def test_tokens_that_do_not_follow_are_a_violation():
    with pytest.raises(ProtocolViolation, match="position 1 come after 0"):
        await receive(stream(STARTED, Tokens(position=1, tokens=TOKENS)))


async def test_a_failure_is_raised_as_the_error_it_was():
    failure = Failure(
        reason="PROMPT_TOO_LONG", message="too long", grpc_code=11, details={"limit": "4"}
    )
    with pytest.raises(PromptTooLong, match="too long") as raised:
        await receive(stream(STARTED, failure))
    assert raised.value.details == {"limit": "4"}


async def test_a_stream_that_just_stops_is_a_violation():
    with pytest.raises(ProtocolViolation, match="without a summary"):
        await receive(stream(STARTED, Tokens(position=0, tokens=TOKENS)))


async def test_the_stream_is_closed_when_showing_fails():
    closed = []

    async def watched() -> AsyncIterator[GenerateEvent]:
        try:
            yield STARTED
            yield SUMMARY
        finally:
            closed.append(True)

    class Broken:
        def show(self, event: GenerateEvent) -> None:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await receive(watched(), Broken())
    assert closed == [True]
