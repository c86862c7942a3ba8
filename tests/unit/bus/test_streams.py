"""Keys, bounds, and positions as entry ids."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, strategies as st

from hola.bus.streams import (
    CANCEL_ID,
    LANES,
    SEAL_ID,
    START_ID,
    BusLimits,
    Keys,
    Known,
    entry_id,
    is_terminal,
    parse_id,
)
from hola.errors import ConfigError, ProtocolViolation
from hola.types import Correction, GenerateEvent
from tests.support.bus import by, failure, started, summary, tokens, unverified


def test_ids_are_positions_from_one_on() -> None:
    assert entry_id(by("a", started())) == "0-1"
    assert entry_id(by("a", tokens(0, 5))) == "1-0"
    assert entry_id(by("a", tokens(5))) == "6-0"
    assert entry_id(by("a", summary(6))) == "7-0"
    assert entry_id(by("a", failure()), Known("5-0", 6, 6)) == "7-0"


@given(st.lists(st.integers(1, 65), max_size=30))
def test_the_ids_of_a_stream_only_grow(lengths: list[int]) -> None:
    ids, written = [START_ID, entry_id(by("a", started()))], 0
    for length in lengths:
        ids.append(entry_id(by("a", tokens(written, length))))
        written += length
    ids += [entry_id(by("a", summary(written))), CANCEL_ID, SEAL_ID]
    numbers = [parse_id(each) for each in ids]
    assert numbers == sorted(set(numbers))


def ids_of(events: list[GenerateEvent]) -> list[str]:
    """The ids that one writer gives the events."""
    known, found = Known(), []
    for event in events:
        entry = by("a", event)
        found.append(entry_id(entry, known))
        known = known.after(found[-1], entry)
    return found


def test_the_number_counts_settled_tokens_and_the_sequence_what_may_be_voided() -> None:
    story: list[tuple[GenerateEvent, str]] = [
        (started(), "0-1"),
        (tokens(0, 3), "1-0"),
        (unverified(3, 2), "4-0"),
        (unverified(5), "4-1"),
        (Correction(position=4), "4-2"),
        (tokens(4, 2), "5-0"),
        (unverified(6, 2), "7-0"),
        (Correction(position=6), "7-1"),
        (tokens(6), "7-2"),
        (unverified(7), "8-0"),
        (Correction(position=8), "8-1"),
        (summary(8), "9-0"),
    ]
    assert ids_of([event for event, _ in story]) == [position for _, position in story]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5), st.integers(0, 9)), max_size=40))
def test_the_ids_of_a_corrected_stream_only_grow(plan: list[tuple[bool, int, int]]) -> None:
    events: list[GenerateEvent] = [started()]
    known = Known()
    for is_settled, count, back in plan:
        if is_settled:
            if known.written > known.settled:
                place = max(known.settled, known.written - back)
                events.append(Correction(position=place))
                known = Known("", place, place)
            events.append(tokens(known.written, count))
        else:
            events.append(unverified(known.written, count))
        known = known.after("", by("a", events[-1]))
    numbers = [parse_id(each) for each in [*ids_of([*events, summary(known.written)]), SEAL_ID]]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("position", [-1, 2**32 - 1, 2**40])
def test_a_position_that_would_reach_the_cancellation_is_refused(position: int) -> None:
    with pytest.raises(ProtocolViolation, match="position"):
        entry_id(by("a", tokens(position)))


def test_ids_compare_as_numbers() -> None:
    assert parse_id("10-0") > parse_id(b"9-3")
    assert parse_id("0-1") > parse_id(START_ID)


def test_ends_are_terminal_and_nothing_else_is() -> None:
    assert [is_terminal(by("a", e)) for e in (started(), tokens(0), summary(1), failure())] == [
        False,
        False,
        True,
        True,
    ]


TAG = re.compile(r"^site:\{([^}]+)\}:")


def test_every_key_begins_with_the_prefix_and_a_requests_keys_have_one_tag() -> None:
    keys = Keys("site")
    lane = keys.lane("r1")
    request = [keys.journal("r1"), keys.request("r1"), keys.attended("r1"), keys.wake(lane, "x")]
    queue = [keys.tenants, keys.queue("a"), keys.queued, keys.ready, keys.dead_letters]
    held = keys.ingests("here")
    ingests = [held.tenants, held.queue("a"), held.queued, held.ready, held.dead_letters]
    ingests += [keys.ingest_report("a", "j"), keys.ingest_reports("a")]
    for group in (request, queue, ingests, keys.registry):
        tags = {found[1] for key in group if (found := TAG.match(key))}
        assert len(tags) == 1, group
    assert keys.bucket("tenant:a").startswith("site:")
    assert Keys().queue("a") == "hola:{jobs}:queue:a"
    assert Keys().ingests("here").queue("a") == "hola:{ingests}:here:queue:a"


def test_the_requests_spread_over_all_lanes_and_no_others() -> None:
    lanes = {Keys().lane(f"request-{number}") for number in range(500)}
    assert lanes == {f"{number:x}" for number in range(LANES)}


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("name", ["queue_limit", "job_idle_s", "journal_ttl_s", "reconnect_s"])
def test_a_limit_that_is_none_is_a_config_error(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        BusLimits(**{name: value})
