"""Each scenario runs on the verifier in process, over loopback TCP and over a unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.verifier import KINDS, Rig, running_verifier

Start = Callable[..., Awaitable[Rig]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """How the port reaches the verifier."""
    return str(request.param)


@pytest.fixture
async def start(kind: str, tmp_path: Path) -> AsyncIterator[Start]:
    """A function that starts one verifier with the given settings."""
    async with AsyncExitStack() as stack:

        async def begin(**settings: Any) -> Rig:
            return await stack.enter_async_context(running_verifier(kind, tmp_path, **settings))

        yield begin


@pytest.fixture
async def rig(start: Start) -> Rig:
    """A verifier with ordinary settings."""
    return await start()
