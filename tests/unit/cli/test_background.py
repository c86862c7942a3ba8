"""One task enters and leaves the context; work runs on the loop's thread; errors come back."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from hola_cli.background import Background


@asynccontextmanager
async def context(seen: list[object]):
    seen.append(asyncio.current_task())
    async with asyncio.TaskGroup():
        yield "resource"
    seen.append(asyncio.current_task())


def test_work_runs_on_another_thread_while_the_context_is_open():
    seen: list[object] = []
    loop = Background(context(seen))
    with loop as resource:
        assert resource == "resource"

        async def where() -> int:
            return threading.get_ident()

        assert loop.run(where()) != threading.get_ident()
        assert loop.run(where()) == loop.run(where())
        assert len(seen) == 1
    assert seen[0] is seen[1]


def test_an_error_of_the_work_is_raised_and_the_loop_goes_on():
    async def fail() -> None:
        raise ValueError("bad")

    async def fine() -> int:
        return 7

    loop = Background(context([]))
    with loop:
        with pytest.raises(ValueError, match="bad"):
            loop.run(fail())
        assert loop.run(fine()) == 7


def test_an_error_while_entering_is_raised():
    @asynccontextmanager
    async def broken():
        raise ValueError("no model")
        yield

    with pytest.raises(ValueError, match="no model"), Background(broken()):
        pytest.fail("entered")


def test_an_error_while_leaving_is_raised():
    @asynccontextmanager
    async def broken():
        yield
        raise ValueError("late")

    with pytest.raises(ValueError, match="late"), Background(broken()):
        pass
