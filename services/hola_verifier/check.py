"""Runs the target's check of a drafted answer in chunks, so that sessions get their turns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Protocol

from hola.checking import Checked
from hola.engines.worker import Timed

Steps = Generator[None, None, dict[str, float]]
Signals = dict[str, float]


class RunStep(Protocol):
    """Runs an engine job in the check's turn."""

    def __call__(self, call: Callable[[], Signals | None]) -> Awaitable[Timed[Signals | None]]:
        """The job's result and times."""
        ...


async def in_turns(steps: Steps, run: RunStep, check_staying: Callable[[], None]) -> Checked:
    """Take every step with `run`; before each, `check_staying` may raise.

    Its signals and times, without the prefill speed.
    """

    def step() -> Signals | None:
        try:
            next(steps)
        except StopIteration as done:
            signals: Signals = done.value
            return signals
        return None

    queue_ns = compute_ns = 0
    while True:
        check_staying()
        timed = await run(step)
        queue_ns += timed.queue_ns
        compute_ns += timed.compute_ns
        if timed.value is not None:
            return Checked(signals=timed.value, compute_ns=compute_ns, queue_ns=queue_ns)
