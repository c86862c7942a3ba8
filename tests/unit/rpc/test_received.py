"""A stream over many connections: nothing twice, nothing left out, nothing that does not hold."""

from __future__ import annotations

import random

import pytest

from hola.errors import ProtocolViolation
from hola.rpc.received import Received
from hola.transcript import Transcript
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


def started(exactness: Exactness = Exactness.EXACT) -> Started:
    return Started(
        request_id="r", model="m", tiers=("t",), fingerprint="", exactness=exactness,
        prompt_tokens=1,
    )  # fmt: skip


def final(first: int, last: int) -> Tokens:
    """The target's own tokens; each is its position."""
    return written(first, range(first, last), Outcome.PLAIN)


def alone(first: int, *ids: int) -> Tokens:
    """Unverified tokens from a position on."""
    return written(first, ids, Outcome.UNVERIFIED)


def written(first: int, ids: range | tuple[int, ...], outcome: Outcome) -> Tokens:
    return Tokens(
        position=first,
        tokens=tuple(TokenEvent(token=id_, text="", tier=0, outcome=outcome) for id_ in ids),
    )


def summary(tokens: int) -> Summary:
    return Summary(finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=tokens)


def taken(received: Received, *events: GenerateEvent) -> list[GenerateEvent]:
    return [new for event in events for new in received.add(event)]


def from_position(events: list[GenerateEvent], position: int) -> list[GenerateEvent]:
    """What a router sends to a client that asks from a position on."""
    sent: list[GenerateEvent] = []
    for event in events:
        if isinstance(event, Correction):
            position = min(position, event.position)
        if isinstance(event, Tokens) and event.position < position:
            rest = event.tokens[position - event.position :]
            if rest:
                sent.append(Tokens(position=position, tokens=rest))
        else:
            sent.append(event)
    return sent


def reconnected(received: Received, events: list[GenerateEvent]) -> list[GenerateEvent]:
    received.connect()
    return taken(received, *from_position(events, received.settled))


def test_started_comes_once() -> None:
    received = Received()
    assert received.add(started()) == [started()]
    assert received.add(started()) == []


def test_known_tokens_are_left_out() -> None:
    received = Received()
    assert taken(received, final(0, 4), final(0, 4), final(2, 4)) == [final(0, 4)]
    assert received.add(final(2, 6)) == [final(4, 6)]
    assert received.position == received.settled == 6


@pytest.mark.parametrize("event", [final(3, 4), alone(3, 7), Correction(position=3)])
def test_a_gap_is_a_violation(event: GenerateEvent) -> None:
    received = Received()
    received.add(final(0, 2))
    with pytest.raises(ProtocolViolation, match="from 2 to 3"):
        received.add(event)


@pytest.mark.parametrize("seed", range(20))
def test_replays_from_any_position_give_each_token_once(seed: int) -> None:
    """Connections that break and begin again at random earlier positions."""
    dice = random.Random(seed)
    received, ids = Received(), []
    while received.position < 60:
        at = dice.randint(0, received.position)
        for _ in range(dice.randint(0, 5)):
            after = at + dice.randint(1, 7)
            for event in received.add(final(at, after)):
                ids += [token.token for token in event.tokens]
            at = after
    assert ids == list(range(len(ids))), f"seed {seed}"


class TestUnverified:
    def test_it_is_asked_for_again_and_left_out_if_it_is_the_same(self) -> None:
        received = Received()
        taken(received, started(), final(0, 2), alone(2, 7, 8))
        assert (received.settled, received.position) == (2, 4)
        assert reconnected(received, [started(), final(0, 2), alone(2, 7, 8), alone(4, 9)]) == [
            alone(4, 9)
        ]

    def test_a_correction_makes_what_is_before_it_final(self) -> None:
        received = Received()
        taken(received, alone(0, 7, 8, 9))
        assert received.add(Correction(position=2)) == [Correction(position=2)]
        assert (received.settled, received.position) == (2, 2)

    def test_gated_tokens_are_final_though_unverified(self) -> None:
        received = Received()
        taken(received, started(Exactness.GATED), alone(0, 7, 8))
        assert received.settled == 2

    def test_another_drafter_s_tokens_in_their_place_are_a_correction(self) -> None:
        """The journal has lost its youngest entries, and its new owner wrote others."""
        received = Received()
        taken(received, final(0, 2), alone(2, 7, 8, 9))
        assert reconnected(received, [final(0, 2), alone(2, 7), alone(3, 5)]) == [
            Correction(position=3),
            alone(3, 5),
        ]

    def test_final_tokens_in_their_place_are_a_correction(self) -> None:
        received = Received()
        taken(received, final(0, 2), alone(2, 7, 8, 9))
        assert reconnected(received, [final(0, 5)]) == [Correction(position=2), final(2, 5)]

    def test_an_end_before_their_end_is_a_correction(self) -> None:
        received = Received()
        taken(received, final(0, 2), alone(2, 7, 8, 9))
        end = summary(3)
        assert reconnected(received, [final(0, 2), alone(2, 7), end]) == [
            Correction(position=3),
            end,
        ]


class TestThePast:
    HISTORY = (started(), alone(0, 7, 8, 9), Correction(position=1), final(1, 6))

    def connected_again(self) -> Received:
        received = Received()
        taken(received, *self.HISTORY)
        assert received.settled == 6
        received.connect()
        return received

    def test_is_not_told_again(self) -> None:
        received = self.connected_again()
        # A router cuts at 6, but cannot know which Corrections came.
        assert taken(received, alone(0, 7, 8, 9), *self.HISTORY[2:]) == []
        assert received.add(final(6, 7)) == [final(6, 7)]

    def test_is_over_with_final_tokens_though_its_correction_is_lost(self) -> None:
        received = self.connected_again()
        assert taken(received, started(), final(0, 5)) == []
        assert taken(received, final(5, 8)) == [final(6, 8)]
        assert received.corrections == 0

    def test_is_over_with_a_correction_behind_what_is_final_here(self) -> None:
        received = self.connected_again()
        assert taken(received, alone(0, *range(9)), Correction(position=8)) == [
            alone(6, 6, 7, 8),
            Correction(position=8),
        ]
        assert (received.corrections, received.settled) == (1, 8)

    @pytest.mark.parametrize("end", [summary(7), Failure(reason="X", message="", grpc_code=13)])
    def test_is_over_with_the_end(self, end: GenerateEvent) -> None:
        received = self.connected_again()
        assert taken(received, alone(0, 7), alone(1, *range(1, 7)), end) == [alone(6, 6), end]


def journal(dice: random.Random, start: list[GenerateEvent]) -> list[GenerateEvent]:
    """Goes on behind `start` to the end: final token n is n, unverified ones are often others."""
    events = list(start)
    transcript = Transcript()
    for event in events:
        transcript.note(event)
    while len(events) < 30:
        at = transcript.position
        right = [token.token for token in transcript.unverified]
        expected = list(range(transcript.verified, at))
        if transcript.unverified and dice.random() < 0.4:
            agreed = next(
                (
                    n
                    for n, pair in enumerate(zip(right, expected, strict=True))
                    if pair[0] != pair[1]
                ),
                len(right),
            )
            event: GenerateEvent = Correction(position=transcript.verified + agreed)
        elif transcript.unverified or dice.random() < 0.3:
            ids = (
                n if dice.random() < 0.8 else 1000 + dice.randint(0, 3) for n in range(at, at + 3)
            )
            event = alone(at, *ids)
        else:
            event = final(at, at + dice.randint(1, 5))
        transcript.note(event)
        events.append(event)
    if transcript.unverified:
        events.append(Correction(position=transcript.verified))
        transcript.note(events[-1])
    return [*events, final(transcript.position, 200), summary(200)]


def lost_tail(dice: random.Random, events: list[GenerateEvent]) -> list[GenerateEvent]:
    """The same request after a crash of the bus: the last entries are gone, others follow."""
    return journal(dice, events[: dice.randint(0, min(len(events) - 2, 29))])


@pytest.mark.parametrize("crashes", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(200))
def test_connections_that_break_anywhere_add_up_to_one_stream(seed: int, crashes: float) -> None:
    dice = random.Random(seed)
    events = journal(dice, [])
    received, got = Received(), []
    while not (got and isinstance(got[-1], Summary)):
        if dice.random() < crashes:
            events = lost_tail(dice, events)
        received.connect()
        sent = from_position(events, received.settled)
        got += taken(received, *sent[: dice.randint(1, len(sent))])
    transcript = Transcript()
    for event in got:
        transcript.note(event)
    assert [token.token for token in transcript.tokens] == list(range(200)), f"seed {seed}"
    assert transcript.unverified == (), f"seed {seed}"
    if not crashes:
        assert transcript.corrections == sum(isinstance(event, Correction) for event in events)
