"""Progress of a job: shares of time per pass, an expected end, and the question whether to stop."""

from __future__ import annotations

import time
from collections.abc import Callable

from hola.compression.plan import Plan
from hola.errors import Cancelled
from hola_compressor.passes import Progress

# How long passes take against each other; what is switched off counts nothing.
_WEIGHTS = {
    "text": 1.0, "prune": 1.0, "recover": 6.0, "graph": 1.0, "measure": 3.0, "allocate": 2.0,
    "quantize": 2.0, "repair": 6.0, "export": 2.0,
}  # fmt: skip


class Rest:
    """The time that the rest should take, going by what was done since this began."""

    def __init__(self) -> None:
        self._began, self._first = time.monotonic(), -1.0

    def of(self, done: float) -> float | None:
        """Seconds from the share done to the end; None while nothing is known."""
        if self._first < 0:  # what an earlier run did took this one no time
            self._first = done
        here = done - self._first
        return (time.monotonic() - self._began) / here * (1 - done) if here > 0.02 else None


class Clock:
    """Tells progress and raises Cancelled; one thread. Passes begin in the order of a job."""

    def __init__(
        self, plan: Plan, progress: Callable[[Progress], None], cancelled: Callable[[], bool]
    ) -> None:
        off = set() if plan.prune.active else {"prune", "recover"}
        off |= set() if plan.recover.steps else {"recover"}
        off |= set() if plan.repair.steps else {"repair"}
        self._stages = {name: w for name, w in _WEIGHTS.items() if name not in off}
        if not plan.prune.active:  # the graph is the source's own, and shows first what cannot be
            self._stages = {"graph": self._stages.pop("graph"), **self._stages}
        self._steps = {"recover": plan.recover.steps, "repair": plan.repair.steps}
        self._progress, self._cancelled = progress, cancelled
        self._stage, self._rest = "", Rest()

    def begin(self, stage: str, message: str) -> None:
        """A pass starts. Raises Cancelled."""
        self.part(stage, 0.0, message)

    def part(self, stage: str, share: float, message: str) -> None:
        """A pass has come so far, 0 to 1. Raises Cancelled."""
        if self._cancelled():
            raise Cancelled(f"the job was cancelled in pass {stage}")
        total = sum(self._stages.values())
        names = list(self._stages)
        before = sum(self._stages[name] for name in names[: names.index(stage)])
        done = (before + share * self._stages[stage]) / total
        self._stage = stage
        eta = self._rest.of(done)
        self._progress(Progress(stage=stage, done=done, message=message, eta_s=eta))

    def step(self, number: int, loss: float) -> None:
        """A training step of the pass under way is done. Raises Cancelled."""
        steps = max(1, self._steps.get(self._stage, 1))
        message = f"step {number} of {steps}, KL {loss:.4g}"
        self.part(self._stage, number / steps, message)

    def say(self, message: str) -> None:
        """A line of the pass under way. Raises Cancelled."""
        self.part(self._stage, 0.5, message)

    def finish(self) -> None:
        """The artifact is there."""
        self._progress(Progress(stage="done", done=1.0, message="done", eta_s=0.0))


class Whole:
    """Progress of several jobs, one after the other, as that of one job in equal parts."""

    def __init__(self, progress: Callable[[Progress], None], parts: int) -> None:
        self._progress, self._parts, self._rest = progress, parts, Rest()

    def part(self, number: int) -> Callable[[Progress], None]:
        """What the part of that number, from 0, tells its progress."""

        def tell(one: Progress) -> None:
            done = (number + one.done) / self._parts
            stage = "draft" if one.stage == "done" else one.stage
            message = f"part {number + 1} of {self._parts}: {one.message}"
            eta = self._rest.of(done)
            self._progress(Progress(stage=stage, done=done, message=message, eta_s=eta))

        return tell
