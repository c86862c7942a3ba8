"""A burst of calls waits in order, a few at a time, and not for ever."""

from __future__ import annotations

import asyncio

import pytest

from hola.errors import Overloaded
from hola_router.turnstile import Turnstile


async def test_a_few_at_a_time_in_order():
    turnstile, inside, most, order = Turnstile(at_a_time=3), 0, 0, []

    async def call(n):
        nonlocal inside, most
        async with turnstile.turn():
            inside += 1
            most = max(most, inside)
            order.append(n)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(call(n) for n in range(50)))
    assert most == 3
    assert order == list(range(50))


async def test_who_waits_too_long_is_told_when_to_come_back():
    turnstile = Turnstile(at_a_time=1, longest_wait_s=0.01)
    async with turnstile.turn():
        with pytest.raises(Overloaded) as refused:
            async with turnstile.turn():
                pytest.fail("two inside")
    assert refused.value.retry_after_s == 2.0
    async with turnstile.turn():
        pass


async def test_an_error_and_a_cancelled_wait_give_the_place_back():
    turnstile = Turnstile(at_a_time=1)
    with pytest.raises(ZeroDivisionError):
        async with turnstile.turn():
            raise ZeroDivisionError
    async with turnstile.turn():
        waiting = asyncio.create_task(turnstile.turn().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with turnstile.turn():
        pass
