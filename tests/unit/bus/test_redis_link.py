"""The link to Redis keeps what a library may lose: a cancellation in the middle of a command."""

from __future__ import annotations

import asyncio

import pytest

from hola.bus.address import parse_address
from hola.bus.redis_link import RedisLink
from hola.bus.security import BusSecurity
from hola.bus.streams import BusLimits, Keys


@pytest.fixture
def link():
    """Nothing listens there, and nothing is sent."""
    address = parse_address("redis://127.0.0.1:1/0")
    return RedisLink(address, BusLimits(), Keys(), BusSecurity())


async def swallow(repeated):
    """As asyncio.wait_for of Python 3.11 does when its inner future is done at that moment."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return "done"


async def test_a_swallowed_cancellation_still_cancels(link):
    task = asyncio.create_task(link.call(swallow))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_swallowed_timeout_still_times_out(link):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await link.call(swallow)


async def test_a_command_after_a_handled_cancellation_answers(link):
    async def answer(repeated):
        return "answer"

    async def cancelled_before():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return await link.call(answer)

    task = asyncio.create_task(cancelled_before())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "answer"
