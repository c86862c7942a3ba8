"""The circuit breaker and the retry budget, on a clock that the test turns."""

from __future__ import annotations

import pytest

from hola.rpc.breaker import FAILURES, BreakerState, CircuitBreaker, jittered_pause
from hola.rpc.retry_budget import RetryBudget


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker_of(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock, pause=lambda trips: float(2**trips))


def test_it_opens_after_failures_in_a_row_only(clock: Clock) -> None:
    breaker = breaker_of(clock)
    for _ in range(10):
        assert [breaker.failed() for _ in range(FAILURES - 1)] == [False] * (FAILURES - 1)
        breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert [breaker.failed() for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    assert breaker.state is BreakerState.OPEN
    assert breaker.wait_s() == 2.0


def test_late_news_of_the_same_trouble_change_nothing(clock: Clock) -> None:
    breaker = breaker_of(clock)
    breaker.trip()
    assert [breaker.failed() for _ in range(50)] == [False] * 50
    assert breaker.wait_s() == 2.0


def test_half_open_lets_one_trial_through_per_pause(clock: Clock) -> None:
    breaker = breaker_of(clock)
    breaker.trip()
    clock.now += 2.0
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.begin()
    assert breaker.state is BreakerState.OPEN
    clock.now += 2.0
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_failed_trial_opens_it_for_longer(clock: Clock) -> None:
    breaker = breaker_of(clock)
    pauses = []
    for _ in range(4):
        breaker.trip() if breaker.state is BreakerState.CLOSED else breaker.failed()
        pauses.append(breaker.wait_s())
        clock.now += breaker.wait_s()
    assert pauses == [2.0, 4.0, 8.0, 16.0]


def test_one_answer_closes_it_and_forgets(clock: Clock) -> None:
    breaker = breaker_of(clock)
    assert breaker.trip()
    assert not breaker.trip()
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert not breaker.failed()
    breaker.trip()
    assert breaker.wait_s() == 2.0


def test_pauses_are_jittered_and_bounded() -> None:
    first = [jittered_pause(1) for _ in range(200)]
    late = [jittered_pause(20) for _ in range(200)]
    assert len(set(first)) > 100
    assert 0 < min(first) <= max(first) < 0.5
    assert max(late) <= 2.0
    assert sum(late) > 2 * sum(first)


def test_a_budget_is_spent_and_earned_by_answers(clock: Clock) -> None:
    budget = RetryBudget(clock, most=5, per_answer=0.5, per_s=0.001)
    assert [budget.spend() for _ in range(7)] == [True] * 5 + [False] * 2
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()
    for _ in range(100):
        budget.earn()
    assert [budget.spend() for _ in range(7)] == [True] * 5 + [False] * 2


def test_reservations_come_one_after_the_other(clock: Clock) -> None:
    budget = RetryBudget(clock, most=2, per_answer=0.1, per_s=4)
    waits = [budget.reserve(10) for _ in range(5)]
    assert waits == [0, 0, 0.25, 0.5, 0.75]
    clock.now += 0.75
    assert budget.reserve(10) == pytest.approx(0.25)


def test_a_reservation_beyond_the_caller_s_patience_takes_nothing(clock: Clock) -> None:
    budget = RetryBudget(clock, most=1, per_answer=0.1, per_s=1)
    assert budget.reserve(0) == 0
    assert budget.reserve(0.5) is None
    assert budget.reserve(1) == 1
    assert budget.reserve(1) is None


def test_a_storm_is_no_larger_than_bucket_and_trickle(clock: Clock) -> None:
    """A thousand sessions that all come back for ten seconds, with no answer at all."""
    budget = RetryBudget(clock, most=32, per_s=8)
    through = 0
    for _ in range(1000):
        through += sum(budget.spend() for _ in range(1000))
        clock.now += 0.01
    assert 32 + 78 <= through <= 32 + 80
