"""`hola models evaluate`: how many questions of a task families answer rightly, side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from hola.compression.answering import accuracy, heldout_files
from hola.compression.questions import Question, read_questions
from hola.engines import load_engine
from hola.engines.tokenizer import load_tokenizer
from hola.errors import InvalidRequest
from hola.models.manifest import Tier
from hola.models.store import ModelStore
from hola_cli.door import settings_for
from hola_cli.jsonform import dump
from hola_cli.options import FamilyOptions, JsonOption, ModelsDirOption


def command(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Families; NAME/TIER for another than the target."),
    ],
    tasks: Annotated[
        list[Path] | None,
        typer.Option(
            "--tasks",
            metavar="FILE",
            help="Questions, .jsonl: prompt and answer, or as GSM8K's, or as ARC's; repeat for "
            "more. Default: the first family's held-out questions.",
        ),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="N", min=0, help="Questions of each file, always the same; 0: all."
        ),
    ] = 100,
    models_dir: ModelsDirOption = None,
    json: JsonOption = False,
) -> None:
    """Measure task accuracy: what compression, or another model, changed for your questions.

    ema is the share of greedy replies whose final answer is right, mca the share of questions
    whose right choice is the likeliest per byte.

    Examples:

    `hola models evaluate demo`

    `hola models evaluate demo demo-lobi --tasks gsm8k/test.jsonl --tasks ARC-Easy.test.jsonl`

    `hola models evaluate demo demo/draft --limit 0 --json`
    """
    settings = settings_for(FamilyOptions(models_dir=models_dir))
    store = ModelStore.at(settings.models_dir, offline=settings.offline)
    tiers = {name: _tier(store, name) for name in names}
    files = tasks or heldout_files(tiers[names[0]].path)
    if not files:
        raise InvalidRequest(
            f"{names[0]} has no held-out questions; name a file with --tasks", field="tasks"
        )
    sets = {file.stem: read_questions(file, limit=limit) for file in files}
    rows = _measured(tiers, sets, threads=settings.threads or None, quiet=json)
    if json:
        dump(rows)
    else:
        _print(rows, names)


def _tier(store: ModelStore, name: str) -> Tier:
    family, _, tier = name.partition("/")
    found = store.get(family)
    return found.tier(tier) if tier else found.target


def _measured(
    tiers: dict[str, Tier], sets: dict[str, list[Question]], *, threads: int | None, quiet: bool
) -> list[dict[str, Any]]:
    """A row per task, with each tier's accuracy by its name."""
    rows: list[dict[str, Any]] = [
        {"task": task, "metric": questions[0].metric, "questions": len(questions), "accuracy": {}}
        for task, questions in sets.items()
    ]
    hidden = quiet or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=hidden) as bar:
        total = len(tiers) * sum(map(len, sets.values()))
        shown = bar.add_task("asking", total=total)
        for name, tier in tiers.items():
            tokenizer = load_tokenizer(tier.path)
            with closing(load_engine(tier.path, threads=threads)) as engine:
                for row, questions in zip(rows, sets.values(), strict=True):
                    bar.update(shown, description=f"{escape(name)}: {escape(row['task'])}")
                    row["accuracy"][name] = accuracy(
                        engine, tokenizer, tier.path, questions, done=lambda: bar.advance(shown)
                    )
    return rows


def _print(rows: list[dict[str, Any]], names: Sequence[str]) -> None:
    table = Table("task", "metric", "questions", *map(escape, dict.fromkeys(names)))
    for row in rows:
        shares = [f"{100 * share:.1f} %" for share in row["accuracy"].values()]
        table.add_row(escape(row["task"]), row["metric"], str(row["questions"]), *shares)
    Console(highlight=False).print(table)
