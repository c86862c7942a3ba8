"""What Python adds to a draft step: time beyond the runtime's own forward pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from hola.ports import Engine, EngineSession
from hola.speculation.proposers import Tier, build_ladder
from hola.types import SamplingParams
from hola_bench.report import rounded

NS_PER_US = 1e3
PREFIX = 64
WARM_UP_STEPS = 20
BLOCK = 8


class RunTimer:
    """Adds up the time inside the runtime, by standing in for a session's `run`."""

    def __init__(self, session: Any) -> None:
        self._run: Callable[[Any], None] = session.run
        self.inside_ns = 0
        session.run = self

    def __call__(self, binding: Any) -> None:
        """Run and add."""
        began_ns = time.perf_counter_ns()
        self._run(binding)
        self.inside_ns += time.perf_counter_ns() - began_ns


def measure(name: str, engine: Engine, *, steps: int) -> dict[str, Any]:
    """Microseconds per draft token: inside the runtime, and beyond it in engine and ladder."""
    inside, beyond = _medians(engine, steps, _one_token)
    _, ladder_beyond = _medians(engine, steps, _block)
    return {
        "tier": name,
        "runtime_us": rounded(inside),
        "engine_beyond_us": rounded(beyond),
        "ladder_beyond_us": rounded(ladder_beyond),
    }


Step = Callable[[int], int]


def _one_token(session: EngineSession) -> Step:
    """A step is one forward pass of one token."""
    session.prefill(range(PREFIX))

    def step(number: int) -> int:
        session.truncate(PREFIX)
        session.forward((number % 16,))
        return 1

    return step


def _block(session: EngineSession) -> Step:
    """A step is a block proposed by the ladder of this one tier; returns its tokens."""
    tiers = [Tier(name="draft", session=session)]
    ladder = build_ladder(tiers, SamplingParams(), lookup=False)

    def step(number: int) -> int:
        prefix = [*range(PREFIX - 1), number % 16]
        return max(1, len(ladder.propose(prefix, BLOCK).tokens)) if ladder else 1

    return step


def _medians(
    engine: Engine, steps: int, prepare: Callable[[EngineSession], Step]
) -> tuple[float, float]:
    """Median microseconds per token inside and beyond the runtime."""
    session = engine.open(PREFIX * 2)
    inside: list[float] = []
    beyond: list[float] = []
    try:
        timer = RunTimer(session)
        step = prepare(session)
        for number in range(steps + WARM_UP_STEPS):
            timer.inside_ns = 0
            began_ns = time.perf_counter_ns()
            tokens = step(number)
            took_ns = time.perf_counter_ns() - began_ns
            inside.append(timer.inside_ns / tokens / NS_PER_US)
            beyond.append((took_ns - timer.inside_ns) / tokens / NS_PER_US)
    finally:
        session.close()
    return statistics.median(inside[WARM_UP_STEPS:]), statistics.median(beyond[WARM_UP_STEPS:])
