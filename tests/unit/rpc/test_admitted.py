"""Waiting out a refusal: as long as it says, apart from others, and not for ever."""

from __future__ import annotations

import asyncio

import pytest

from hola.errors import HolaError, MemoryBudgetExceeded, Overloaded, QuotaExceeded
from hola.rpc.admitted import when_admitted


class Clock:
    """Time that only sleeping moves."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds):
        self.now += seconds

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def server(*refusals, events=("a", "b")):
    """Refuses as told, one call each, then streams."""
    left = list(refusals)

    async def start():
        if left:
            raise left.pop(0)
        for event in events:
            yield event

    return start


async def read(start, clock, patience_s, jitter=0.0, told=None):
    events = when_admitted(
        start,
        patience_s=patience_s,
        clock=clock,
        jitter=lambda: jitter,
        told=told or (lambda error, wait_s: None),
    )
    return [event async for event in events]


async def test_without_patience_the_refusal_is_raised(clock):
    with pytest.raises(Overloaded):
        await read(server(Overloaded("full", retry_after_ms=1)), clock, 0)


async def test_it_comes_back_when_told(clock):
    waits = []
    refusals = Overloaded("full", retry_after_ms=1500), QuotaExceeded("slow", retry_after_ms=250)
    got = await read(server(*refusals), clock, 10, told=lambda _, wait_s: waits.append(wait_s))
    assert got == ["a", "b"]
    assert waits == [1.5, 0.25]
    assert clock.now == 1.75


async def test_it_gives_up_before_a_wait_beyond_its_patience(clock):
    start = server(*[Overloaded("full", retry_after_ms=400)] * 100)
    with pytest.raises(Overloaded):
        await read(start, clock, 1.0)
    assert clock.now == pytest.approx(0.8)


async def test_who_is_told_no_time_waits_a_second(clock):
    assert await read(server(Overloaded("full")), clock, 5) == ["a", "b"]
    assert clock.now == 1.0


@pytest.mark.parametrize("told", ["-5", "soon", "1e3", "", "1.5"])
async def test_a_time_that_is_none_counts_as_untold(clock, told):
    assert await read(server(Overloaded("full", retry_after_ms=told)), clock, 5) == ["a", "b"]
    assert clock.now == 1.0


async def test_clients_come_back_apart(clock):
    await read(server(Overloaded("full", retry_after_ms=1000)), clock, 5, jitter=1.0)
    assert clock.now == 1.25


@pytest.mark.parametrize("error", [HolaError("x"), MemoryBudgetExceeded("no room")])
async def test_other_errors_are_raised_at_once(clock, error):
    with pytest.raises(type(error)):
        await read(server(error), clock, 100)
    assert clock.now == 0


async def test_a_stream_that_has_begun_is_not_begun_again(clock):
    async def start():
        yield "a"
        raise Overloaded("the verifier is full", retry_after_ms=1)

    events = when_admitted(start, patience_s=100, clock=clock)
    assert await anext(events) == "a"
    with pytest.raises(Overloaded):
        await anext(events)
