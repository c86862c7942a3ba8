"""A backend of the test's own on the session's redis-server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.bus import RedisBackend


@pytest.fixture
async def backend(redis_url: str) -> AsyncIterator[RedisBackend]:
    """`backend.bus()` connects one more process to it; `backend.client` looks behind the scenes."""
    made = RedisBackend(redis_url)
    yield made
    await made.close()
