"""The gate in `hola bench retrieval`: answers logged elsewhere, and what demo tiers know."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hola.errors import HolaError
from hola.models.store import ModelStore
from hola_bench.report import Report
from hola_bench.retrieval.gate import GateOptions, measure_gate, steps
from hola_bench.retrieval.gate_demo import ask_all, facts_of, measure_demo


def run_gate(options: GateOptions, *, models_dir: str, model: str, threads: int) -> Report:
    """Measure the gate set in `options.data`, then the family's knowledge base.

    Where there is no such family or it has no knowledge base, `demo_note` says so and the headline
    has no demo_gate_auroc. Raises ArtifactInvalid, InvalidRequest for the gate set.
    """
    with _bar("gate set", steps(options)) as progress:
        result = measure_gate(options, progress=progress)
    headline, details = dict(result.headline), dict(result.details)
    try:
        family = ModelStore.at(models_dir).get(model)
        facts = facts_of(family)
        with _bar(f"facts that {family.name} knows", len(facts)) as progress:
            asked = ask_all(family, facts, threads=threads, progress=progress)
        found, more = measure_demo(asked)
        headline |= found
        details |= more
    except HolaError as error:
        details["demo_note"] = error.message
    return Report(
        bench="retrieval",
        seed=options.seed,
        repeats=options.repeats,
        headline=headline,
        details=details,
    )


@contextmanager
def _bar(title: str, total: int) -> Iterator[Any]:
    """A progress bar on stderr; gives the function that advances it."""
    columns = TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(
        *columns, console=Console(stderr=True), disable=not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.advance(task, done)
