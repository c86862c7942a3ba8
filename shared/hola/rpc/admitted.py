"""Comes back to a router that was full at the time it named, as long as the caller has patience."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import cast

from hola.errors import Overloaded
from hola.types import GenerateEvent

UNTOLD_WAIT_S = 1.0
# Those who were refused together come back apart.
JITTER = 0.25

Told = Callable[[Overloaded, float], None]


async def when_admitted(
    start: Callable[[], AsyncIterator[GenerateEvent]],
    *,
    patience_s: float,
    told: Told = lambda error, wait_s: None,
    clock: Callable[[], float] = time.monotonic,
    jitter: Callable[[], float] = random.random,
) -> AsyncGenerator[GenerateEvent, None]:
    """The events of `start()`, begun again each time it is refused for load before its first one.

    Waits as long as the refusal says (RetryInfo), and calls `told(error, wait_s)` before each
    wait. Raises the refusal when its wait would end more than `patience_s` seconds after the first
    call, and every other error at once.
    """
    deadline = clock() + patience_s
    while True:
        begun = False
        try:
            async with aclosing(cast("AsyncGenerator[GenerateEvent, None]", start())) as events:
                async for event in events:
                    begun = True
                    yield event
            return
        except Overloaded as error:
            named = error.retry_after_s
            wait_s = (UNTOLD_WAIT_S if named is None else named) * (1 + JITTER * jitter())
            if begun or clock() + wait_s > deadline:
                raise
            told(error, wait_s)
        await asyncio.sleep(wait_s)
