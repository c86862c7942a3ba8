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
_SHARED = ("01-text", "04-graph", "05-statistics", "06-damage")


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

    def job(self, name: str, **changes: Any) -> Job:
        """A job of that name; statistics and damages are those of the first one."""
        plan = self.plan(**changes)
        folder = self._work / name.replace(" ", "-")
        if self._first is not None and not plan.prune.active:
            for part in _SHARED:
                if not (folder / part).is_dir():
                    shutil.copytree(self._first.work / part, folder / part)
        clock = Clock(plan, lambda p: self._report(name, p), lambda: False)
        job = Job(plan, self.source, folder, clock)
        if self._first is None:
            _ = job.text, job.graph_folder, job.known, job.table
            self._first = job
        return job

    def build(self, name: str, **changes: Any) -> Built:
        """Run a job to its artifact."""
        return self.job(name, **changes).built()

    def _report(self, name: str, progress: Progress) -> None:
        self._say(f"Lo-Bi {name}: {progress.stage} {progress.message}")
