"""`hola bench`: measurements with one form of result, as a table or one JSON object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hola_bench import registry
from hola_bench.report import Report, print_report
from hola_cli.door import settings_for
from hola_cli.jsonform import dump
from hola_cli.options import DoorOptions, JsonOption, ModelOption, ModelsDirOption

app = typer.Typer(no_args_is_help=True, help="Measure, in one form for every benchmark.")

SeedOption = Annotated[int, typer.Option(help="Seed of everything drawn at random.")]
PromptsOption = Annotated[
    int | None, typer.Option(min=1, help="Prompts to use. Default: all needed.")
]


@app.command("list")
def list_benches(json: JsonOption = False) -> None:
    """Name the benchmarks.

    Examples:

    `hola bench list`
    """
    if json:
        dump(registry.BENCHES)
        return
    table = Table("name", "what it answers", "minutes on two cores")
    for bench in registry.BENCHES:
        table.add_row(bench.name, bench.summary, bench.minutes)
    Console().print(table)


@app.command("exactness")
def exactness(
    prompts: Annotated[
        int, typer.Option(min=1, help="Prompts, each at temperatures 0, 0.7 and 1.")
    ] = 500,
    configurations: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Only these, separated by commas. Default: all."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens per output.")] = 32,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core, at most 4.")] = 0,
    seed: SeedOption = 0,
    json: JsonOption = False,
    model: ModelOption = None,
    models_dir: ModelsDirOption = None,
) -> None:
    """Compare speculative output with plain decoding, token by token, and count differences.

    Exit code 1 when there is a mismatch. Each mismatch prints the line that replays it.

    Examples:

    `hola bench exactness --json > exactness.json`

    `hola bench exactness --prompts 40 --configurations k=4,restart`
    """
    from hola_bench.exactness import Options

    settings = settings_for(DoorOptions(model=model, models_dir=models_dir, embedded=True))
    options = Options(
        models_dir=Path(settings.models_dir),
        model=settings.model,
        prompts=prompts,
        configurations=tuple(configurations.split(",")) if configurations else (),
        max_tokens=max_tokens,
        jobs=jobs,
        seed=seed,
    )
    report = registry.run("exactness", options)
    _show(report, json)
    if report.headline["mismatches"]:
        raise typer.Exit(1)


@app.command("speed")
def speed(
    prompts: Annotated[int, typer.Option(min=1, help="Prompts per ladder and repeat.")] = 12,
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved repeats.")] = 5,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens per output.")] = 96,
    scale: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Scale family to time as well; `auto` makes one of about 0.4 B parameters in "
            "the cache folder (needs the compress extra); `none` leaves it out.",
        ),
    ] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="Engine threads; 0: one per core.")] = 0,
    seed: SeedOption = 0,
    json: JsonOption = False,
    model: ModelOption = None,
    models_dir: ModelsDirOption = None,
) -> None:
    """Time every ladder against plain decoding, and the protocol's own cost.

    Slower ladders are published like faster ones.

    Examples:

    `hola bench speed --json > speed.json`

    `hola bench speed --scale none --repeats 3`
    """
    from hola_bench.speed import Options

    settings = settings_for(DoorOptions(model=model, models_dir=models_dir, embedded=True))
    options = Options(
        models_dir=Path(settings.models_dir),
        model=settings.model,
        prompts=prompts,
        repeats=repeats,
        max_tokens=max_tokens,
        scale=scale,
        threads=threads,
        seed=seed,
    )
    _show(registry.run("speed", options), json)


def _show(report: Report, json: bool) -> None:
    if json:
        dump(report.as_json())
    else:
        print_report(report, Console())
