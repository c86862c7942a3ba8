"""What writers know, gaps, and the endings that the bus writes itself."""

from __future__ import annotations

import pytest

from hola.bus.rules import Continuity, KnownEnds, cancellation, given_up, worn_out
from hola.bus.streams import Known
from hola.errors import BusUnavailable
from hola.types import Exactness, Failure, FinishReason, Outcome, Summary
from tests.support.bus import by, failure, started, summary, tokens


def test_a_writers_knowledge_goes_with_its_appends() -> None:
    ends = KnownEnds()
    assert ends.get("r") is None
    ends.advance("r", "0-1", by("a", started()))
    assert ends.get("r") == Known("0-1", 0)
    ends.advance("r", "1-0", by("a", tokens(0, 4)))
    assert ends.get("r") == Known("1-0", 4, 4)
    ends.advance("r", "5-0", by("a", summary(4)))
    assert ends.get("r") is None


def test_knowledge_is_bounded_and_the_longest_unused_goes_first() -> None:
    ends = KnownEnds(limit=2)
    for name in ("r1", "r2"):
        ends.set(name, Known("1-0", 1))
    ends.advance("r1", "2-0", by("a", tokens(1)))
    ends.set("r3", Known())
    assert [ends.get(name) is None for name in ("r1", "r2", "r3")] == [False, True, False]


@pytest.mark.parametrize("position", [0, 2, 5])
def test_a_gap_or_a_repetition_is_no_continuation(position: int) -> None:
    continuity = Continuity()
    for event in (started(), tokens(0, 3)):
        continuity.check(by("a", event))
    with pytest.raises(BusUnavailable) as caught:
        continuity.check(by("a", tokens(position)))
    assert caught.value.details == {"expected": "3", "got": str(position)}
    assert continuity.check(by("a", tokens(3))) == by("a", tokens(3))
    assert continuity.check(by("a", failure())) == by("a", failure())


def test_a_cancellation_counts_every_outcome_and_tier() -> None:
    position, entries = 0, [by("a", started())]
    for outcome, count in zip(Outcome, (5, 4, 3, 2, 1), strict=True):
        entries.append(by("a", tokens(position, count, outcome=outcome)))
        position += count
    entry = cancellation(entries)
    end = entry.event
    assert entry.writer == "bus"
    assert isinstance(end, Summary)
    assert end.finish_reason is FinishReason.CANCELLED
    assert end.exactness is Exactness.UNVERIFIED
    counts = (end.accepted_tokens, end.corrected_tokens, end.bonus_tokens)
    assert (*counts, end.plain_tokens, end.unverified_tokens) == (5, 4, 3, 2, 1)
    assert end.completion_tokens == position == 15
    lookup = end.tiers[0]
    assert (lookup.tier, lookup.proposed_tokens, lookup.accepted_tokens) == ("lookup", 10, 5)
    assert sum(tier.accepted_tokens for tier in end.tiers) == end.accepted_tokens


def test_a_job_given_up_ends_in_a_failure_that_says_how_often_it_was_tried() -> None:
    end = given_up(worn_out(5)).event
    assert isinstance(end, Failure)
    assert (end.grpc_code, end.details) == (13, {"deliveries": "5"})
    assert "5 drafters" in end.message
