"""Asks a second verifier when the first is late: verdicts are pure, so whichever comes is right."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hola.rpc.pool_lane import Lane
from hola.types import DraftBlock, Open, VerifierResponse

# Opens a lane at another verifier of equal numerics; its rounds begin after the given one.
Second = Callable[[int], Awaitable[Lane]]


class Race:
    """One late question. Afterwards `winner` carries the session on; close the `loser`, if any."""

    def __init__(self, first: Lane, opening: Open, block: DraftBlock, second: Second) -> None:
        """`opening` makes the session anew as it stands before `block`."""
        self.winner = first
        self.loser: Lane | None = None
        self._opening = opening
        self._block = block
        self._second = second

    async def run(self, after_s: float) -> VerifierResponse:
        """The first answer; a second verifier is asked after `after_s` seconds without one.

        Raises what the first lane raised when neither answers.
        """
        first = asyncio.create_task(self.winner.receive())
        second: asyncio.Task[VerifierResponse] | None = None
        try:
            await asyncio.wait({first}, timeout=after_s)
            if first.done():
                return first.result()
            second = asyncio.create_task(self._ask())
            if await _succeeds_first(first, second):
                return first.result()
            if self.loser is not None:
                self.winner, self.loser = self.loser, self.winner
            return second.result()
        finally:
            await _stop(first, second)

    async def _ask(self) -> VerifierResponse:
        """The second lane's answer, once its session is where the first one's is."""
        lane = self.loser = await self._second(self._block.round - 1)
        await lane.send(self._opening)
        await lane.receive()
        await lane.send(self._block)
        return await lane.receive()


async def _succeeds_first(first: asyncio.Task[Any], second: asyncio.Task[Any]) -> bool:
    """Wait for an answer of either; False when it is the second's. True when both have failed."""
    await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
    if first.done() and first.exception() is None:
        return True
    if not second.done():
        await asyncio.wait({second})
    if second.exception() is None:
        return False
    await asyncio.wait({first})
    return True


async def _stop(*tasks: asyncio.Task[Any] | None) -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
