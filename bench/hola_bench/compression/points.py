"""Lo-Bi's artifacts of one checkpoint at several budgets; what no budget changes is done once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hola.compression.plan import Plan, parse_plan
from hola_compressor.passes import Built, Progress
from hola_compressor.passes.clock import Clock
from hola_compressor.passes.job import Job

# Passes that neither the budget nor what comes after it changes.
_SHARED = ("01-text", "04-graph", "05-statistics")
# This one neither, where each tensor has the same choices.
_DAMAGE = "06-damage"
FIRST, FIRST_BITS = "first", 6.0


class Points:
    """Jobs below one folder. `base` holds the plan's keys that all of them have."""

    def __init__(
        self, source: Path, work: Path, base: dict[str, Any], say: Callable[[str], None]
    ) -> None:
        self.source, self._work, self._base, self._say = source, work, base, say
        self._first: Job | None = None

    def plan(self, **changes: Any) -> Plan:
        """The base plan with sections or values replaced; sections are merged key by key."""
        merged = dict(self._base)
        for key, value in changes.items():
            old = merged.get(key)
            merged[key] = {**old, **value} if isinstance(old, dict) else value
        return parse_plan(merged)

    @property
    def first(self) -> Job:
        """The base plan's job, whose text, graph, statistics and damages the others take over."""
        if self._first is None:
            plan = self.plan(bits=FIRST_BITS)
            self._first = job = self._job(FIRST, plan, self._work / FIRST)
            _ = job.text, job.graph_folder, job.known
        return self._first

    def job(self, name: str, **changes: Any) -> Job:
        """A job of that name."""
        plan = self.plan(**changes)
        folder = self._work / name.replace(" ", "-")
        for part in () if plan.prune.active else taken_over(plan, self.first.plan):
            if not (folder / part).is_dir():
                if part == _DAMAGE:
                    _ = self.first.table  # minutes; plans of one width never need it
                shutil.copytree(self.first.work / part, folder / part)
        return self._job(name, plan, folder)

    def _job(self, name: str, plan: Plan, folder: Path) -> Job:
        clock = Clock(plan, lambda p: self._report(name, p), lambda: False)
        return Job(plan, self.source, folder, clock)

    def build(self, name: str, **changes: Any) -> Built:
        """Run a job to its artifact."""
        return self.job(name, **changes).built()

    def _report(self, name: str, progress: Progress) -> None:
        self._say(f"Lo-Bi {name}: {progress.stage} {progress.message}")


def taken_over(plan: Plan, first: Plan) -> tuple[str, ...]:
    """Passes of the first plan that hold for another one on the same checkpoint."""
    names = ("bits", "blocks", "symmetric", "asymmetric")
    same = all(getattr(plan.quantize, n) == getattr(first.quantize, n) for n in names)
    return (*_SHARED, _DAMAGE) if same else _SHARED
