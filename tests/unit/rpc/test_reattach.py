"""The client's memory of a stream: nothing twice, nothing left out, and a limit to its patience."""

from __future__ import annotations

import random

import pytest

from hola.errors import (
    BusUnavailable,
    DuplicateRequest,
    HolaError,
    InvalidRequest,
    ProtocolViolation,
    ServiceUnavailable,
    UnknownRequest,
)
from hola.rpc.reattach import Attachment, Patience
from hola.types import (
    Correction,
    Exactness,
    Failure,
    FinishReason,
    GenerateRequest,
    Outcome,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)

STARTED = Started(
    request_id="r", model="m", tiers=("t",), fingerprint="", exactness=Exactness.EXACT,
    prompt_tokens=1,
)  # fmt: skip
SUMMARY = Summary(finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=9)


def tokens(first: int, last: int) -> Tokens:
    events = tuple(
        TokenEvent(token=number, text="", tier=0, outcome=Outcome.PLAIN)
        for number in range(first, last)
    )
    return Tokens(position=first, tokens=events)


def cut(event: Tokens | Correction, position: int) -> Tokens | Correction | None:
    """What a router sends of an event to a client that has `position` tokens."""
    if isinstance(event, Tokens) and event.position < position:
        after = event.position + len(event.tokens)
        return tokens(position, after) if after > position else None
    return event


class Stub:
    """Records which call was made."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def Generate(self, message: object, **options: object) -> None:
        self.calls.append(("Generate", message))

    def Resume(self, message: object, **options: object) -> None:
        self.calls.append(("Resume", message))


def made(attachment: Attachment) -> tuple[str, int]:
    """The next call's name and position."""
    stub = Stub()
    attachment.call(stub)(timeout=1)  # type: ignore[arg-type]
    name, message = stub.calls[0]
    return name, getattr(message, "position", -1)


def generating() -> Attachment:
    return Attachment(request_id="r", request=GenerateRequest(prompt="hi", request_id="r"))


def test_generate_comes_first_and_resume_after_any_event() -> None:
    attachment = generating()
    assert made(attachment) == ("Generate", -1)
    attachment.fresh(STARTED)
    assert made(attachment) == ("Resume", 0)
    attachment.fresh(tokens(0, 3))
    assert made(attachment) == ("Resume", 3)


def test_resuming_starts_where_it_is_told() -> None:
    attachment = Attachment(request_id="r", position=5)
    assert made(attachment) == ("Resume", 5)
    assert attachment.fresh(tokens(5, 7)) == tokens(5, 7)


def test_started_comes_once() -> None:
    attachment = generating()
    assert attachment.fresh(STARTED) == STARTED
    assert attachment.fresh(STARTED) is None


def test_known_tokens_are_left_out() -> None:
    attachment = generating()
    assert attachment.fresh(tokens(0, 4)) == tokens(0, 4)
    assert attachment.fresh(tokens(0, 4)) is None
    assert attachment.fresh(tokens(2, 4)) is None
    assert attachment.fresh(tokens(2, 6)) == tokens(4, 6)
    assert attachment.position == 6


def test_a_gap_is_a_violation() -> None:
    attachment = generating()
    attachment.fresh(tokens(0, 2))
    with pytest.raises(ProtocolViolation, match="from 2 to 3"):
        attachment.fresh(tokens(3, 4))


@pytest.mark.parametrize("seed", range(20))
def test_replays_from_any_position_give_each_token_once(seed: int) -> None:
    """Connections that break and begin again at random earlier positions."""
    dice = random.Random(seed)
    attachment = generating()
    received: list[int] = []
    while attachment.position < 60:
        at = dice.randint(0, attachment.position)
        for _ in range(dice.randint(0, 5)):
            after = at + dice.randint(1, 7)
            event = attachment.fresh(tokens(at, after))
            at = after
            if isinstance(event, Tokens):
                received += [token.token for token in event.tokens]
    assert received == list(range(len(received))), f"seed {seed}"


def test_a_correction_takes_the_position_back() -> None:
    attachment = generating()
    attachment.fresh(tokens(0, 9))
    assert attachment.fresh(Correction(position=4)) == Correction(position=4)
    assert attachment.fresh(tokens(4, 6)) == tokens(4, 6)
    assert made(attachment) == ("Resume", 6)


def test_a_correction_behind_a_gap_is_a_violation() -> None:
    attachment = generating()
    attachment.fresh(tokens(0, 2))
    with pytest.raises(ProtocolViolation, match="from 2 to 3"):
        attachment.fresh(Correction(position=3))


def test_tokens_from_before_a_known_correction_are_not_new() -> None:
    attachment = generating()
    history = [tokens(0, 9), Correction(position=4), tokens(4, 6)]
    for event in history:
        assert attachment.fresh(event) == event
    made(attachment)
    # The router cuts what it sends at position 6, but it cannot know which Corrections came.
    for event in [tokens(6, 9), *history[1:]]:
        assert attachment.fresh(event) is None
    assert attachment.position == 6
    assert attachment.fresh(tokens(6, 7)) == tokens(6, 7)


def journal(dice: random.Random) -> list[Tokens | Correction]:
    """Tokens in pieces; now and then the last ones turn out to be void."""
    entries: list[Tokens | Correction] = []
    written = 0
    while len(entries) < 30:
        if written and dice.random() < 0.2:
            written = dice.randint(max(0, written - 9), written)
            entries.append(Correction(position=written))
        after = written + dice.randint(1, 7)
        entries.append(tokens(written, after))
        written = after
    return entries


@pytest.mark.parametrize("seed", range(50))
def test_connections_that_break_anywhere_add_up_to_one_stream(seed: int) -> None:
    dice = random.Random(seed)
    entries = journal(dice)
    attachment, received = generating(), []
    while len(received) < len(entries):
        name, position = made(attachment)
        for entry in entries[: dice.randint(0, len(entries))]:
            if isinstance(entry, Correction):
                position = min(position, entry.position)
            sent = cut(entry, position) if name == "Resume" else entry
            event = None if sent is None else attachment.fresh(sent)
            if event is not None:
                received.append(event)
    assert received == entries, f"seed {seed}"


@pytest.mark.parametrize("last", [SUMMARY, Failure(reason="X", message="", grpc_code=13)])
def test_the_terminal_event_ends_it(last: Summary | Failure) -> None:
    attachment = generating()
    assert attachment.fresh(last) is last
    assert attachment.ended


@pytest.mark.parametrize("error", [ServiceUnavailable("x"), BusUnavailable("x")])
def test_what_is_unavailable_may_come_back(error: HolaError) -> None:
    assert generating().may_retry(error)


@pytest.mark.parametrize("error", [InvalidRequest("x"), UnknownRequest("x"), HolaError("x")])
def test_other_errors_stay(error: HolaError) -> None:
    assert not generating().may_retry(error)


def test_an_id_taken_by_somebody_else_is_an_error() -> None:
    assert not generating().may_retry(DuplicateRequest("x"))


def test_an_id_taken_by_the_own_first_try_is_resumed() -> None:
    attachment = generating()
    assert attachment.may_retry(ServiceUnavailable("the connection broke"))
    assert made(attachment)[0] == "Generate"
    assert attachment.may_retry(DuplicateRequest("taken"))
    assert made(attachment) == ("Resume", 0)


def test_patience_waits_longer_each_time_up_to_its_limit() -> None:
    now = 0.0
    patience = Patience(10, clock=lambda: now, jitter=lambda: 1.0)
    waits = []
    while now < 10:
        waits.append(patience.next_wait_s(ServiceUnavailable("x")))
        now += waits[-1]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0])
    with pytest.raises(ServiceUnavailable):
        patience.next_wait_s(ServiceUnavailable("x"))


def test_progress_renews_patience() -> None:
    now = 0.0
    patience = Patience(1, clock=lambda: now, jitter=lambda: 0.0)
    assert patience.next_wait_s(ServiceUnavailable("x")) == 0.05
    now = 0.9
    patience.reset()
    now = 1.5
    assert patience.next_wait_s(ServiceUnavailable("x")) == 0.05
