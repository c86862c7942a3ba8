"""Which address a session goes to: stable, spread, healthy, of equal numerics, not overloaded."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
from hypothesis import given

from hola.rpc.verifier_choice import LOAD_MARGIN, Candidate, order

NAMES = [f"grpc://node-{number}:7072" for number in range(8)]
SESSIONS = [f"session-{number}" for number in range(4000)]

candidates = st.lists(
    st.builds(
        Candidate,
        address=st.sampled_from(NAMES),
        fingerprint=st.sampled_from([None, "", "a", "b"]),
        load=st.integers(0, 20),
        suspect=st.booleans(),
        paused=st.booleans(),
        draining=st.booleans(),
        shunned=st.booleans(),
    ),
    unique_by=lambda each: each.address,
    max_size=8,
)


def plain(count: int = 8, **first: object) -> list[Candidate]:
    made = [Candidate(address=name, fingerprint="a") for name in NAMES[:count]]
    if first:
        made[0] = Candidate(**{"address": NAMES[0], "fingerprint": "a", **first})  # type: ignore[arg-type]
    return made


def test_sessions_are_spread_evenly() -> None:
    counts = Counter(order(plain(), session)[0] for session in SESSIONS)
    assert set(counts) == set(NAMES)
    assert max(counts.values()) < 1.2 * len(SESSIONS) / len(NAMES)


def test_an_address_that_goes_takes_only_its_own_sessions() -> None:
    before = {session: order(plain(), session) for session in SESSIONS}
    rest = [each for each in plain() if each.address != NAMES[3]]
    for session, addresses in before.items():
        left = tuple(address for address in addresses if address != NAMES[3])
        assert order(rest, session) == left


@given(candidates, st.sampled_from(SESSIONS), st.sampled_from(["", "a", "b"]))
def test_every_address_but_the_draining_ones_once(
    found: list[Candidate], session: str, fingerprint: str
) -> None:
    chosen = order(found, session, fingerprint)
    assert sorted(chosen) == sorted(each.address for each in found if not each.draining)
    assert chosen == order(reversed(found), session, fingerprint)


@given(candidates, st.sampled_from(SESSIONS), st.sampled_from(["a", "b"]))
def test_others_numerics_come_after_all_equal_and_unknown_ones(
    found: list[Candidate], session: str, fingerprint: str
) -> None:
    kinds = {each.address: each.fingerprint for each in found}
    ranks = [
        {fingerprint: 0, None: 1}.get(kinds[address], 2)
        for address in order(found, session, fingerprint)
    ]
    assert ranks == sorted(ranks)


@given(candidates, st.sampled_from(SESSIONS))
def test_the_sound_come_first(found: list[Candidate], session: str) -> None:
    sound = {
        each.address
        for each in found
        if not (each.suspect or each.paused or each.draining or each.shunned)
    }
    chosen = order(found, session)
    assert set(chosen[: len(sound)]) == sound


def test_a_loaded_choice_gives_way_beyond_the_margin() -> None:
    session = next(s for s in SESSIONS if order(plain(3), s)[0] == NAMES[0])
    assert order(plain(3, load=LOAD_MARGIN), session)[0] == NAMES[0]
    chosen = order(plain(3, load=LOAD_MARGIN + 1), session)
    assert chosen[0] != NAMES[0]
    assert sorted(chosen) == NAMES[:3]


def test_load_never_outweighs_health_or_numerics() -> None:
    busy = Candidate(address=NAMES[0], fingerprint="a", load=100)
    for idle in (
        Candidate(address=NAMES[1], fingerprint="a", suspect=True),
        Candidate(address=NAMES[1], fingerprint="b"),
        Candidate(address=NAMES[1], fingerprint=None),
    ):
        assert all(order([busy, idle], session, "a")[0] == NAMES[0] for session in SESSIONS[:50])


def test_nobody_is_nobody() -> None:
    assert order([], "s") == ()
    assert order(plain(1, draining=True), "s") == ()
