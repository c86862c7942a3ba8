"""`hola gate`: fit the retrieval gate to one's own logs, check it, and see what it decides by."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from hola.errors import HolaError, InvalidRequest
from hola.models.store import ModelStore
from hola.retrieval.gate.fit import (
    FOLDS,
    MIN_LEAF,
    TREES,
    FitOptions,
    fit_gate,
    forests_of,
    signal_table,
)
from hola.retrieval.gate.logs import LogEntry, read_logs
from hola.retrieval.gate.measures import auroc, calibration_error, curve, gain_share
from hola.retrieval.gate.model import FAMILIES, Gate
from hola.retrieval.gate.place import gate_in_force, own_gate
from hola.retrieval.gate.policy import DEFAULT_ANSWER_WORTH_MS, Costs, Depth, decide
from hola_cli.flatten import flat
from hola_cli.jsonform import dump
from hola_cli.knowledge import retrieval_settings
from hola_cli.options import JsonOption

TOP_SIGNALS = 8

app = typer.Typer(
    no_args_is_help=True, help="Fit, check and inspect the gate that says which questions retrieve."
)
LogsArgument = Annotated[
    str,
    typer.Argument(
        metavar="LOGS", help="JSONL: question, none, light and more (docs/GATE.md); `-`: stdin."
    ),
]
GateOption = Annotated[
    str | None,
    typer.Option(
        "--gate",
        metavar="FILE",
        help="The gate. Default: gate.json in HOLA_DATA_DIR's folder; to read where there is none: "
        "the model family's.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """How a gate is fitted."""

    trees: Annotated[int, typer.Option("--trees", metavar="N", min=1, help="Trees per forest.")] = (
        TREES
    )
    min_leaf: Annotated[
        int, typer.Option("--min-leaf", metavar="N", min=1, help="Fewest questions in a leaf.")
    ] = MIN_LEAF
    folds: Annotated[
        int, typer.Option("--folds", metavar="N", min=2, help="Parts to check it on, in turn.")
    ] = FOLDS
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Seed of everything drawn at random.")
    ] = 0


@app.command("fit")
@flat
def fit(
    logs: LogsArgument,
    fitting: Fitting,
    gate: GateOption = None,
    texts: Annotated[
        str | None,
        typer.Option(
            "--texts",
            metavar="FILE",
            help="More questions or texts, one a line, to know rare words by.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Fit a gate to logged questions, check it by cross-validation, and write it to a file.

    Examples:

    `hola gate fit logs.jsonl`

    `hola gate fit logs.jsonl --gate ./gate.json --texts questions.txt`
    """
    entries = read_logs(logs)
    options = FitOptions(
        trees=fitting.trees,
        min_leaf=fitting.min_leaf,
        folds=fitting.folds,
        seed=fitting.seed,
    )
    where = Path(gate).expanduser() if gate else own_gate(retrieval_settings())
    with _bar("fitting", forests_of(entries, options), quiet=json) as advance:
        fitted = fit_gate(entries, options, background=_lines(texts), progress=advance)
    fitted.save(where)
    if json:
        dump({"file": str(where), "about": fitted.about, "stages": _stages(fitted)})
        return
    print(f"fitted on {len(entries)} questions, written to {where}")
    Console(highlight=False).print(_stage_table(fitted))


@app.command("evaluate")
def evaluate(logs: LogsArgument, gate: GateOption = None, json: JsonOption = False) -> None:
    """Check a fitted gate on logs it was not fitted on.

    Gain is the area between its curve of right answers against retrievals and a straight line, as
    a share of the best possible: 0 is chance, 1 knows beforehand which answers retrieval mends.

    Examples:

    `hola gate evaluate other.jsonl`
    """
    entries = read_logs(logs)
    if not entries:
        raise InvalidRequest(f"{logs} has no entry", field="logs")
    facts = _evaluated(Gate.load(_in_force(gate)), entries)
    if json:
        dump(facts)
        return
    table = Table(show_header=False)
    for name, value in facts.items():
        shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    Console(highlight=False).print(table)


@app.command("show")
def show(
    question: Annotated[
        str | None, typer.Argument(metavar="[QUESTION]", help="A question to judge.")
    ] = None,
    gate: GateOption = None,
    prefill_ms_per_token: Annotated[
        float, typer.Option("--prefill-ms", metavar="MS", min=0, help="Prefill per prompt token.")
    ] = 1.0,
    worth_ms: Annotated[
        float,
        typer.Option("--worth-ms", metavar="MS", min=1, help="Wait that a right answer is worth."),
    ] = DEFAULT_ANSWER_WORTH_MS,
    json: JsonOption = False,
) -> None:
    """Show what a gate was fitted on and goes by; with a question, what it says of that.

    The question is judged by its text alone, at 300 (light) and 900 (deep) prompt tokens.

    Examples:

    `hola gate show`

    `hola gate show "who sang the theme of the film"`
    """
    where = _in_force(gate)
    fitted = Gate.load(where)
    if question is None:
        facts = {"file": str(where), "about": fitted.about, "stages": _stages(fitted)}
        if json:
            dump(facts)
            return
        print(f"{where}: fitted on {fitted.about.get('entries', '?')} questions")
        Console(highlight=False).print(_stage_table(fitted))
        return
    costs = Costs(prefill_ms_per_token=prefill_ms_per_token, light_tokens=300, deep_tokens=900)
    judged = fitted.judge(fitted.signals(question))
    decision = decide(judged.estimates, costs, answer_worth_ms=worth_ms)
    if json:
        dump(
            {
                "depth": str(decision.depth),
                "reasons": decision.reasons,
                "signals": judged.families,
                "estimates": {str(depth): each for depth, each in judged.estimates.items()},
            }
        )
        return
    print(decision.depth)
    for reason in decision.reasons:
        print(f"  {reason}")


def _in_force(gate: str | None) -> Path:
    """The file that is named, else the one that is in force for HOLA_MODEL."""
    if gate:
        return Path(gate).expanduser()
    settings = retrieval_settings()
    try:
        family = ModelStore.at(settings.models_dir).get(settings.model).path
    except HolaError:  # no such family here, so no gate of its own
        family = None
    return gate_in_force(settings, family)


def _lines(texts: str | None) -> list[str]:
    if texts is None:
        return []
    try:
        return [line for line in Path(texts).read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{texts} cannot be read: {error}", field="texts") from error


def _evaluated(gate: Gate, entries: Sequence[LogEntry]) -> dict[str, Any]:
    """The gate's figures on those entries."""
    table = signal_table(entries, gate.words, own=False)
    estimates = [gate.judge(signals).estimates[Depth.LIGHT] for signals in table]
    expected = np.array([estimate.gain for estimate in estimates])
    # Calibrated gains are steps; the probability of help breaks their ties.
    scores = expected + 1e-6 * np.array([estimate.helps for estimate in estimates])
    none = np.array([entry.none for entry in entries], np.float64)
    light = np.array([entry.light for entry in entries], np.float64)
    found = curve(scores, none, light)
    facts = {
        "questions": len(entries),
        "never": found.never,
        "always": found.always,
        "gain": gain_share(scores, none, light),
        "at_25_percent": found.at(0.25),
        "at_50_percent": found.at(0.5),
        "at_75_percent": found.at(0.75),
        "rate_at_always_accuracy": found.rate_at_always,
        "auroc_wrong_alone": auroc(scores, none < 0.5),
        "auroc_helps": auroc(scores, light > none),
        "calibration_error": calibration_error(expected, light - none),
    }
    return {name: value for name, value in facts.items() if value == value}  # NaN: one kind only


def _stages(gate: Gate) -> list[dict[str, Any]]:
    return [
        {
            "signals": [name for letter, name in FAMILIES.items() if letter in stage.families],
            "gain": stage.gain_share,
            "depths": [str(depth) for depth in stage.heads],
            "most_used": _most_used(stage.signals, stage.heads[Depth.LIGHT].forest),
        }
        for stage in gate.stages
    ]


def _most_used(names: Sequence[str], forest: Any) -> dict[str, float]:
    shares = forest.importance(len(names))
    order = np.argsort(-shares, kind="stable")[:TOP_SIGNALS]
    return {names[i]: round(float(shares[i]), 3) for i in order}


def _stage_table(gate: Gate) -> Table:
    table = Table("signals", "gain when checked", "depths", "splits most on")
    for stage in _stages(gate):
        used = ", ".join(f"{name} {share:.0%}" for name, share in stage["most_used"].items())
        depths = ", ".join(stage["depths"])
        table.add_row(" + ".join(stage["signals"]), f"{stage['gain']:.3f}", depths, used)
    return table


class _bar:
    """A progress bar on stderr; entering gives the function that advances it."""

    def __init__(self, title: str, total: int, *, quiet: bool) -> None:
        columns = TextColumn(title), BarColumn(), MofNCompleteColumn()
        hidden = quiet or not sys.stderr.isatty()
        self._bar = Progress(*columns, console=Console(stderr=True), disable=hidden)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Any:
        self._bar.start()
        return lambda done: self._bar.advance(self._task, done)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
