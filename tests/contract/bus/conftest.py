"""Every scenario runs on memory and on a real Redis, there as the documented ACL user."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.bus import Backend, MemoryBackend, RedisBackend


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    """One backend; `backend.bus()` connects one more process to it."""
    made: Backend
    if request.param == "memory":
        made = MemoryBackend()
    else:
        made = RedisBackend(request.getfixturevalue("redis_url"))
        await made.confine()
    yield made
    await made.close()
