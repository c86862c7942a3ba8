"""Keys, bounds, and positions as entry ids."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hola.bus.streams import (
    CANCEL_ID,
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
from tests.support.bus import by, failure, started, summary, tokens


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


def test_every_key_begins_with_the_prefix_and_a_journals_tag_is_its_request() -> None:
    keys = Keys("site")
    assert keys.jobs == "site:jobs"
    assert keys.journal("r1") == "site:{r1}:journal"
    assert keys.dead_letters == "site:dead"
    assert keys.wake("x") == "site:wake:x"
    assert Keys().jobs == "hola:jobs"


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("name", ["queue_limit", "job_idle_s", "journal_ttl_s", "reconnect_s"])
def test_a_limit_that_is_none_is_a_config_error(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        BusLimits(**{name: value})
