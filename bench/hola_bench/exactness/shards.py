"""Spreads cases over processes, each with its own engines, and adds their tallies up."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hola.config import Settings
from hola.errors import HolaError
from hola.telemetry import configure_logging
from hola_bench.cases import Case
from hola_bench.exactness.compare import Configuration, Tally, compare, configurations
from hola_bench.models import Models

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from multiprocessing.queues import Queue

Progressed = Callable[[int], None]
SILENCE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one process does: `names` are configurations."""

    models: Models
    names: tuple[str, ...]
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Crash:
    """What a process died of."""

    text: str


Message = int | list[Tally] | Crash


def run(work: Work, jobs: int) -> list[Tally]:
    """Every configuration over every case. Raises HolaError when a process dies."""
    wanted = _wanted(work)
    total = len(work.cases) + sum(
        min(len(work.cases), item.most_cases or len(work.cases)) for item in wanted
    )
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("outputs"), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=total)
        if jobs == 1:
            return asyncio.run(
                compare(work.models, wanted, work.cases, lambda n: bar.advance(task, n))
            )
        return _gather(work, jobs, lambda n: bar.advance(task, n))


def _wanted(work: Work) -> list[Configuration]:
    return [item for item in configurations(work.models) if item.plan.name in work.names]


def split(work: Work, jobs: int) -> list[Work]:
    """Prompts dealt out in turn. What runs only some of the cases runs in the first process."""
    limited = {item.plan.name for item in _wanted(work) if item.most_cases is not None}
    prompts = list(dict.fromkeys(case.prompt.name for case in work.cases))
    owner = {name: i % jobs for i, name in enumerate(prompts)}
    return [
        Work(
            models=work.models,
            names=tuple(name for name in work.names if i == 0 or name not in limited),
            cases=tuple(case for case in work.cases if owner[case.prompt.name] == i),
        )
        for i in range(min(jobs, len(prompts)))
    ]


def _gather(work: Work, jobs: int, progress: Progressed) -> list[Tally]:
    # fork would copy gRPC's threads half-way.
    context = multiprocessing.get_context("spawn")
    messages: Queue[Message] = context.Queue()
    processes = [
        context.Process(target=_shard, args=(part, messages), daemon=True)
        for part in split(work, jobs)
    ]
    for process in processes:
        process.start()
    try:
        return _collect(processes, messages, progress)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _collect(
    processes: Sequence[BaseProcess], messages: Queue[Message], progress: Progressed
) -> list[Tally]:
    totals: dict[str, Tally] = {}
    missing = len(processes)
    while missing:
        match _next(processes, messages):
            case int() as outputs:
                progress(outputs)
            case Crash(text=text):
                raise HolaError(f"a benchmark process failed:\n{text}")
            case tallies:
                missing -= 1
                for tally in tallies:
                    totals.setdefault(tally.name, Tally(name=tally.name)).add(tally)
    return list(totals.values())


def _next(processes: Sequence[BaseProcess], messages: Queue[Message]) -> Message:
    waited_s = 0.0
    while waited_s < SILENCE_S:
        try:
            return messages.get(timeout=5)
        except queue.Empty:
            waited_s += 5
            died = [process.exitcode for process in processes if process.exitcode]
            if died:
                return Crash(f"exit code {died[0]}")
    return Crash(f"no output for {SILENCE_S:g} s")


def _shard(work: Work, messages: Queue[Message]) -> None:
    configure_logging("bench", Settings(log_level="error"))
    try:
        messages.put(asyncio.run(compare(work.models, _wanted(work), work.cases, messages.put)))
    except BaseException:
        messages.put(Crash(traceback.format_exc()))
        raise


def known_names(models: Models) -> Sequence[str]:
    """Names that `--configurations` may give."""
    return [item.plan.name for item in configurations(models)]
