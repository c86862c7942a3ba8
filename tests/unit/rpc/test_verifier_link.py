"""The stream's end of a verifier client, against a call that misbehaves as grpc's can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hola.config import Settings
from hola.errors import SessionLost
from hola.rpc.verifier_client import _GrpcLink
from hola.types import DraftBlock


class StuckCall:
    """Its metadata is never sent, so that grpc's own write would wait for ever."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Any], None]] = []
        self.cancelled = False

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.callbacks.append(callback)

    async def wait_for_connection(self) -> None:
        await asyncio.Event().wait()

    async def write(self, message: Any) -> None:
        raise AssertionError("nothing can be written yet")

    def done(self) -> bool:
        return self.cancelled

    def cancel(self) -> bool:
        self.cancelled = True
        return True


async def test_a_call_that_breaks_while_it_begins_is_lost_at_once() -> None:
    call = StuckCall()
    link = _GrpcLink(call, Settings(connect_timeout_s=1000))
    sending = asyncio.create_task(link.send(DraftBlock(round=1, base_position=0)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not sending.done()
    for callback in call.callbacks:
        callback(call)
    async with asyncio.timeout(10):
        with pytest.raises(SessionLost, match="while it began"):
            await sending
    assert call.cancelled


async def test_a_call_that_never_begins_is_lost_in_time() -> None:
    call = StuckCall()
    link = _GrpcLink(call, Settings(connect_timeout_s=0.01))
    with pytest.raises(SessionLost, match="while it began"):
        await link.send(DraftBlock(round=1, base_position=0))
    assert call.cancelled


async def test_cancelling_the_first_message_leaves_no_task() -> None:
    link = _GrpcLink(StuckCall(), Settings())
    sending = asyncio.create_task(link.send(DraftBlock(round=1, base_position=0)))
    for _ in range(5):
        await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert asyncio.all_tasks() == {asyncio.current_task()}
