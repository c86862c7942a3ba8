"""A held session stops before the verdict it was told to, says no goodbye, and goes on later."""

from __future__ import annotations

import asyncio

import pytest

from hola.errors import SessionLost
from hola.types import CancelSession, DraftBlock, Open, Verdict
from hola_bench.exactness.held import HeldVerifier


class Link:
    def __init__(self) -> None:
        self.sent: list[object] = []

    async def send(self, message: object) -> None:
        self.sent.append(message)

    async def receive(self) -> Verdict:
        return Verdict(round=len(self.sent), accepted=0, token=1)

    async def close(self) -> None:
        self.sent.append("closed")


class Port:
    address = "test:"

    def __init__(self) -> None:
        self.link = Link()

    async def connect(self, session_id: str = "", *, fingerprint: str = "") -> Link:
        return self.link


OPEN = Open(session_id="s", model="", tokenizer_fingerprint="", prompt=(1,))


async def opened(port: Port, hold_at: int):
    held = HeldVerifier(port, lambda name: hold_at)  # type: ignore[arg-type]
    link = await held.connect()
    await link.send(OPEN)
    await link.receive()
    return held, link


async def test_it_stops_before_the_verdict_and_goes_on_when_released():
    held, link = await opened(Port(), hold_at=2)
    await link.send(DraftBlock(round=1, base_position=0))
    await link.receive()
    waiting = asyncio.create_task(link.receive())
    await held.wait_stopped({"s"})
    assert not waiting.done()
    held.release()
    assert (await waiting).token == 1


async def test_a_session_that_dies_while_held_says_no_goodbye():
    port = Port()
    held, link = await opened(port, hold_at=1)
    waiting = asyncio.create_task(link.receive())
    await held.wait_stopped({"s"})
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    with pytest.raises(SessionLost):
        await link.send(CancelSession())
    await link.close()
    assert port.link.sent == [OPEN, "closed"]


async def test_a_session_that_ends_before_counts_as_stopped():
    held = HeldVerifier(Port(), lambda name: 9)  # type: ignore[arg-type]
    await held.note_stopped("short")
    async with asyncio.timeout(1):
        await held.wait_stopped({"short"})
