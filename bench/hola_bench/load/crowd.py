"""Clients of one tenant, each with one stream after the other: reading, leaving, coming back."""

from __future__ import annotations

import asyncio
import enum
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from hola.errors import HolaError, Overloaded, UnknownRequest
from hola.rpc.router_client import RouterClient
from hola.types import (
    Failure,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    Summary,
    Tokens,
)
from hola_bench.chaos.judge import first_difference
from hola_bench.chaos.workload import Work

STREAM_LIMIT_S = 300.0
RETRY_S = 0.5


class Habit(enum.StrEnum):
    """What a client does with its stream."""

    READ = "read"
    RETURN = "return"  # hangs up in the middle and comes back
    CANCEL = "cancel"
    ABANDON = "abandon"  # hangs up in the middle for good


HABITS = (Habit.READ, Habit.RETURN, Habit.CANCEL, Habit.ABANDON)
HABIT_WEIGHTS = (0.8, 0.1, 0.05, 0.05)


@dataclass(slots=True, kw_only=True)
class Served:
    """What one tenant got. `tokens` are (second, how many); waits are to the first token."""

    tokens: list[tuple[float, int]] = field(default_factory=list)
    waits_s: list[tuple[float, float]] = field(default_factory=list)
    streams: int = 0
    habits: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    refused: int = 0

    def tokens_between(self, begin_s: float, end_s: float) -> int:
        """Tokens that came in a span of time."""
        return sum(count for at, count in self.tokens if begin_s <= at < end_s)


class Crowd:
    """All clients of one tenant, over one connection. Use from one event loop."""

    def __init__(
        self, tenant: str, router: RouterClient, work: Work, *, seed: int, began: float
    ) -> None:
        """`began` is the run's start on the monotonic clock."""
        self.served = Served()
        self._tenant = tenant
        self._router = router
        self._work = work
        self._seed = seed
        self._began = began
        self._numbers = itertools.count()
        self._clients: list[asyncio.Task[None]] = []

    def join(self, count: int, habits: Sequence[float] = HABIT_WEIGHTS) -> None:
        """That many more clients; `habits` are the weights of HABITS."""
        self._clients += [asyncio.create_task(self._client(habits)) for _ in range(count)]

    async def leave(self) -> None:
        """All clients hang up. Raises what one of them could not stand."""
        clients, self._clients = self._clients, []
        for client in clients:
            client.cancel()
        for result in await asyncio.gather(*clients, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _client(self, habits: Sequence[float]) -> None:
        while True:
            number = next(self._numbers)
            rng = random.Random(f"load {self._seed} {self._tenant} {number}")
            habit = rng.choices(HABITS, habits)[0]
            try:
                async with asyncio.timeout(STREAM_LIMIT_S):
                    await self._stream(number, rng, habit)
            except Overloaded as full:
                self.served.refused += 1
                await asyncio.sleep(float(full.details.get("retry_after_ms", 500)) / 1000)
            except (HolaError, TimeoutError) as error:
                self.served.errors.append(f"{self._tenant}-{number}: {error!r}")
                await asyncio.sleep(RETRY_S)
            else:
                self.served.streams += 1
                self.served.habits[habit] += 1

    async def _stream(self, number: int, rng: random.Random, habit: Habit) -> None:
        """One request. Raises HolaError when it fails or its text is not the target's."""
        at = rng.randrange(len(self._work.cases))
        case = self._work.cases[at]
        request = GenerateRequest(
            prompt=self._work.texts[at],
            request_id=f"load-{self._seed}-{self._tenant}-{number}",
            sampling=case.params,
        )
        reading = Reading(self._work.expected[at].ids)
        leave_after = None if habit is Habit.READ else rng.randint(1, 40)
        sent_s = self._now()
        await self._read(self._router.generate(request), reading, leave_after, sent_s)
        if reading.end is not None or habit is Habit.ABANDON:
            return
        if habit is Habit.CANCEL:
            await self._cancel(request.request_id)
            return
        await asyncio.sleep(rng.uniform(0.0, 1.0))
        rest = self._router.resume(request.request_id, len(reading.ids))
        await self._read(rest, reading, None, sent_s)
        reading.check_end()

    async def _cancel(self, request_id: str) -> None:
        try:
            await self._router.cancel(request_id)
        except UnknownRequest:
            return  # it ended, and its journal is gone

    async def _read(
        self,
        events: AsyncGenerator[GenerateEvent, None],
        reading: Reading,
        leave_after: int | None,
        sent_s: float,
    ) -> None:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Tokens):
                    if not reading.ids:
                        self.served.waits_s.append((sent_s, self._now() - sent_s))
                    self.served.tokens.append((self._now(), len(event.tokens)))
                reading.take(event)
                if leave_after is not None and len(reading.ids) >= leave_after:
                    return
        reading.check_end()

    def _now(self) -> float:
        return time.monotonic() - self._began


class Reading:
    """One stream's ids so far, held against the expected ones."""

    def __init__(self, expected: tuple[int, ...]) -> None:
        self._expected = expected
        self.ids: list[int] = []
        self.end: Summary | Failure | None = None

    def take(self, event: GenerateEvent) -> None:
        """Raises HolaError on a wrong token and on a Failure."""
        if isinstance(event, Tokens):
            self.ids += [token.token for token in event.tokens]
            at = first_difference(self.ids, self._expected)
            if at is not None:
                raise HolaError(f"wrong token at {at}")
        elif isinstance(event, Summary):
            self.end = event
        elif isinstance(event, Failure):
            raise HolaError(f"{event.reason}: {event.message}")

    def check_end(self) -> None:
        """Raises HolaError when the stream ended before the text did."""
        if self.end is None:
            raise HolaError("the stream has no end")
        if isinstance(self.end, Summary) and self.end.finish_reason is FinishReason.CANCELLED:
            raise HolaError("cancelled by nobody")
        if len(self.ids) != len(self._expected):
            raise HolaError(f"{len(self.ids)} of {len(self._expected)} tokens")
