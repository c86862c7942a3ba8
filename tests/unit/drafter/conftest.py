"""What the drafter's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.drafter_world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    for device in world.devices:
        await device.stop()
