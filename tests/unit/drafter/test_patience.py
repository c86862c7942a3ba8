"""Pauses between tries: none at first, then longer ones, jittered and bounded."""

from __future__ import annotations

import pytest

from hola.errors import SessionLost, SessionMoved
from hola_drafter.patience import Absence

LOST, MOVED = SessionLost("gone"), SessionMoved("drains")


def absence(limit_s: float = 10, jitter: float = 1.0) -> tuple[Absence, list[float]]:
    now = [100.0]
    return Absence(limit_s, clock=lambda: now[0], jitter=lambda: jitter), now


def test_pauses_grow_up_to_a_limit() -> None:
    gone, _ = absence()
    pauses = [gone.pause_s(LOST) for _ in range(9)]
    assert pauses == pytest.approx([0, 0.2, 0.4, 0.8, 1.6, 2, 2, 2, 2])
    assert gone.tries == 9


def test_ever_so_many_tries_do_not_overflow() -> None:
    gone, _ = absence()
    for _ in range(2000):
        assert gone.pause_s(LOST) <= 2


def test_pauses_are_jittered() -> None:
    gone, _ = absence(jitter=0.25)
    gone.pause_s(LOST)
    assert gone.pause_s(LOST) == pytest.approx(0.05)


def test_a_session_that_moves_is_not_kept_waiting_but_not_for_ever() -> None:
    gone, _ = absence()
    assert [gone.pause_s(MOVED) for _ in range(4)] == [0, 0, 0, 0]
    assert gone.tries == 1
    assert gone.pause_s(MOVED) > 0


def test_the_time_counts_from_the_loss_to_the_next_verdict() -> None:
    gone, now = absence(limit_s=5)
    assert gone.left_s == 5
    gone.pause_s(LOST)
    now[0] += 3
    gone.pause_s(MOVED)
    assert gone.left_s == 2
    assert gone.trouble is MOVED
    now[0] += 3
    assert gone.left_s == 0
    gone.over()
    assert (gone.left_s, gone.tries, gone.trouble) == (5, 0, None)
    now[0] += 50
    assert gone.pause_s(LOST) == 0
    assert gone.left_s == 5
