"""The session table: who is admitted, who has to go, and that the books balance."""

from __future__ import annotations

import random

import pytest

from hola.errors import MemoryBudgetExceeded, Overloaded
from hola_verifier.table import Entry, SessionTable

Table = SessionTable[str]


def table(*, max_sessions: int = 4, budget: int = 100, ttl_ns: int = 10) -> Table:
    return SessionTable(max_sessions=max_sessions, kv_budget_bytes=budget, ttl_ns=ttl_ns)


def entry(name: str, kv_bytes: int = 10, *, used_ns: int = 0, attached: bool = False) -> Entry[str]:
    return Entry(
        session_id=name,
        capacity=kv_bytes,
        kv_bytes=kv_bytes,
        used_ns=used_ns,
        owner=object() if attached else None,
    )


def names(entries: list[Entry[str]]) -> list[str]:
    return [each.session_id for each in entries]


def test_bytes_and_streams_are_counted() -> None:
    sessions = table()
    assert sessions.admit(entry("a", 30, attached=True)) == []
    assert sessions.admit(entry("b", 20)) == []
    assert (len(sessions), sessions.attached, sessions.kv_bytes) == (2, 1, 50)
    first = sessions.get("a")
    assert first is not None
    assert sessions.remove(first)
    assert (len(sessions), sessions.attached, sessions.kv_bytes) == (1, 0, 20)


def test_a_session_is_removed_once_and_not_for_its_successor() -> None:
    sessions = table()
    old, new = entry("a"), entry("a")
    sessions.admit(old)
    assert sessions.remove(old)
    sessions.admit(new)
    assert not sessions.remove(old)
    assert sessions.get("a") is new
    assert sessions.kv_bytes == 10


def test_the_least_recently_used_waiting_session_goes_first() -> None:
    sessions = table(budget=40)
    sessions.admit(entry("old", used_ns=1))
    sessions.admit(entry("attached", used_ns=0, attached=True))
    sessions.admit(entry("middle", used_ns=2))
    sessions.admit(entry("new", used_ns=3))
    assert names(sessions.admit(entry("big", 20, attached=True))) == ["old", "middle"]
    assert sessions.kv_bytes == 40
    assert sorted(names(sessions.entries())) == ["attached", "big", "new"]


def test_the_number_is_bounded_as_well() -> None:
    sessions = table(max_sessions=2)
    sessions.admit(entry("a", used_ns=1))
    sessions.admit(entry("b", attached=True))
    assert names(sessions.admit(entry("c", attached=True))) == ["a"]
    with pytest.raises(Overloaded) as raised:
        sessions.admit(entry("d"))
    assert raised.value.details["max_sessions"] == "2"
    assert len(sessions) == 2


def test_nothing_goes_when_it_would_not_be_enough() -> None:
    sessions = table(budget=40)
    sessions.admit(entry("waiting", 10))
    sessions.admit(entry("attached", 25, attached=True))
    with pytest.raises(Overloaded):
        sessions.admit(entry("too big", 20))
    assert sorted(names(sessions.entries())) == ["attached", "waiting"]
    assert sessions.kv_bytes == 35


def test_what_can_never_fit_is_told_so() -> None:
    with pytest.raises(MemoryBudgetExceeded) as raised:
        table(budget=99).admit(entry("huge", 100))
    assert raised.value.details == {"needed_bytes": "100", "available_bytes": "99"}


def test_silent_sessions_expire_and_busy_ones_do_not() -> None:
    sessions = table(ttl_ns=10)
    busy, silent, fresh = entry("busy"), entry("silent", attached=True), entry("fresh", used_ns=5)
    busy.running = 1
    for each in (busy, silent, fresh):
        sessions.admit(each)
    assert sessions.expired(10) == []
    assert names(sessions.expired(11)) == ["silent"]
    assert names(sessions.expired(16)) == ["silent", "fresh"]


@pytest.mark.parametrize("seed", range(10))
def test_the_books_balance_whatever_happens(seed: int) -> None:
    dice = random.Random(seed)
    sessions = table(max_sessions=5, budget=60)
    for now in range(300):
        name = f"s{dice.randrange(8)}"
        existing = sessions.get(name)
        if existing is not None and dice.random() < 0.4:
            sessions.remove(existing)
        elif existing is not None:
            existing.owner = None if dice.random() < 0.7 else object()
        else:
            attached = dice.random() < 0.5
            new = entry(name, dice.randrange(1, 40), used_ns=now, attached=attached)
            try:
                sessions.admit(new)
            except Overloaded:
                assert sessions.get(name) is None
        entries = sessions.entries()
        assert sessions.kv_bytes == sum(each.kv_bytes for each in entries) <= 60, f"seed {seed}"
        assert len(entries) <= 5, f"seed {seed}"


def test_tenants_have_their_own_ids() -> None:
    sessions = table()
    one, two = entry("a"), entry("a")
    two.tenant = "other"
    sessions.admit(one)
    sessions.admit(two)
    assert sessions.get("a") is one
    assert sessions.get("a", "other") is two
    assert sessions.get("a", "third") is None
    assert sessions.remove(two)
    assert sessions.get("a") is one


def test_room_is_made_by_the_tenant_with_most_idle_sessions() -> None:
    sessions = table(max_sessions=6)
    for number, tenant in enumerate(("few", "many", "many", "many", "two", "two")):
        each = entry(f"{tenant}{number}", used_ns=number)
        each.tenant = tenant
        sessions.admit(each)
    # many has three, then two as two has: the older goes; then all have one but two.
    assert names(sessions.idle(10)) == ["many1", "many2", "two4", "few0", "many3", "two5"]


def test_a_silent_stream_goes_after_all_that_have_left() -> None:
    sessions = SessionTable[str](max_sessions=8, kv_budget_bytes=1000, ttl_ns=100, spare_ns=20)
    busy, silent, fresh = (
        entry("busy", attached=True),
        entry("silent", used_ns=1, attached=True),
        entry("fresh", used_ns=50, attached=True),
    )
    busy.running = 1
    for each in (busy, silent, fresh, entry("left", used_ns=60)):
        sessions.admit(each)
    assert names(sessions.idle(21)) == ["left"]
    assert names(sessions.idle(22)) == ["left", "silent"]
    assert names(sessions.idle(71)) == ["left", "silent", "fresh"]
