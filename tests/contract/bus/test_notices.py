"""Notices of ended requests: they reach every bus that follows, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from hola.errors import BusUnavailable

PATIENCE_S = 20


async def listen(bus, heard):
    async for request_id in bus.notices.follow():
        heard.append(request_id)


async def told(bus, request_id, *heard):
    """Tell until everybody has heard: a follower hears what comes after its own first step."""
    async with asyncio.timeout(PATIENCE_S):
        while not all(request_id in each for each in heard):
            await bus.notices.ended(request_id)
            await asyncio.sleep(0.01)


async def test_every_follower_hears_every_notice_in_order(backend):
    here, there = backend.bus(block_s=0.2), backend.bus(block_s=0.2)
    heard: list[list[str]] = [[], []]
    following = [
        asyncio.create_task(listen(bus, each))
        for bus, each in zip((here, there), heard, strict=True)
    ]
    await told(here, "first", *heard)
    names = [f"r{n}" for n in range(300)]
    for name in names:
        await there.notices.ended(name)
    await told(there, "last", *heard)
    for each in heard:
        assert [name for name in each if name.startswith("r")] == names
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)


async def test_what_was_told_before_is_not_heard(backend):
    bus, heard = backend.bus(block_s=0.2), []
    await bus.notices.ended("early")
    following = asyncio.create_task(listen(bus, heard))
    await told(bus, "late", heard)
    assert "early" not in heard
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_nobody_needs_to_listen(backend):
    bus = backend.bus()
    for n in range(20):
        await bus.notices.ended(f"r{n}")


async def test_closing_the_bus_ends_its_followers(backend):
    bus, other, heard = backend.bus(block_s=0.2), backend.bus(), []
    following = asyncio.create_task(listen(bus, heard))
    await told(other, "r1", heard)
    await bus.close()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(BusUnavailable):
            await following
