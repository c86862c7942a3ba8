"""The client's memory of a stream: nothing twice, nothing left out, and a limit to its patience."""

from __future__ import annotations

import pytest

from hola.errors import (
    BusUnavailable,
    DuplicateRequest,
    HolaError,
    InvalidRequest,
    ServiceUnavailable,
    UnknownRequest,
)
from hola.rpc.reattach import Attachment, Patience
from hola.rpc.received import Received
from hola.types import (
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
    attachment = Attachment(request_id="r", received=Received(settled=5))
    assert made(attachment) == ("Resume", 5)
    assert attachment.fresh(tokens(5, 7)) == [tokens(5, 7)]
    assert attachment.position == 7


@pytest.mark.parametrize("last", [SUMMARY, Failure(reason="X", message="", grpc_code=13)])
def test_the_terminal_event_ends_it(last: Summary | Failure) -> None:
    attachment = generating()
    assert attachment.fresh(last) == [last]
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
