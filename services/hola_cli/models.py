"""`hola models`: which model families are here, what is in them, and how to add one."""

from __future__ import annotations

import sys
from json import loads
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from hola.errors import HolaError, InvalidRequest
from hola.models.family import Family
from hola.models.manifest import Tier
from hola.models.store import ModelStore
from hola_cli.doctor import MIB, read_all
from hola_cli.door import settings_for
from hola_cli.jsonform import dump
from hola_cli.options import FamilyOptions, JsonOption, ModelsDirOption

app = typer.Typer(no_args_is_help=True, help="List, inspect and add model families.")


@app.command("list")
def list_models(models_dir: ModelsDirOption = None, json: JsonOption = False) -> None:
    """Name the families in the models folder.

    Examples:

    `hola models list`

    `hola models list --models-dir /srv/models --json`
    """
    store = _store(models_dir)
    found = {name: _read(store, name) for name in store.names()}
    if json:
        dump([_listed(name, family) for name, family in found.items()])
        return
    if not found:
        where = " or ".join(map(str, store.roots))
        print(f"no model family in {where}; `hola models add NAME SOURCE` adds one")
        return
    table = Table("family", "tiers", "MiB", "context", "description")
    for name, family in found.items():
        if isinstance(family, HolaError):
            table.add_row(name, "", "", "", f"[red]broken:[/red] {escape(family.message)}")
            continue
        tiers = ", ".join(tier.name for tier in family.tiers)
        context, mib = str(family.context_length), f"{_mib(family):.0f}"
        table.add_row(name, tiers, mib, context, escape(family.description))
    Console(highlight=False).print(table)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A family, e.g. demo.")],
    models_dir: ModelsDirOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file and compare its digest.")
    ] = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Write the compression report: one HTML page, pictures as PNG, and JSON. "
            "With --json and without --out: print it.",
        ),
    ] = False,
    tier: Annotated[
        str, typer.Option("--tier", metavar="TIER", help="The report's tier, if several have one.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for --report. Default: NAME-report."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show a family's tiers, sizes and digests, or the report of a compressed one.

    Examples:

    `hola models show demo`

    `hola models show demo --verify --json`

    `hola models show demo-lobi --report --out ./report`
    """
    if not report and (out is not None or tier):
        field = "out" if out is not None else "tier"
        raise InvalidRequest(f"--{field} goes with --report", field=field)
    store = _store(models_dir)
    family = store.get(name)
    if report:
        _show_report(store, name, tier, out, json=json)
        return
    if verify:
        read_all(family, quiet=json)
    if json:
        dump({**_facts(family), "verified": verify})
        return
    console = Console(highlight=False)
    checked = ", every digest is right" if verify else ""
    console.print(f"[bold]{family.name}[/bold] {escape(family.description)}")
    console.print(
        f"context {family.context_length} tokens, licence {family.license or 'unknown'}, "
        f"tokenizer {family.tokenizer_sha256[:12]}{checked}"
    )
    table = Table("tier", "parameters", "MiB", "quantization", "digest")
    for each in family.tiers:
        parameters = f"{each.parameters:,}" if each.parameters else "unknown"
        mib = f"{each.bytes / MIB:.1f}"
        table.add_row(each.name, parameters, mib, each.quantization, each.digest[:12])
    console.print(table)


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new family's name.")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Target: an onnxruntime-genai directory, a Hugging Face checkpoint directory, or "
            "a hub id (the last two need the compress extra).",
        ),
    ],
    draft: Annotated[
        list[str] | None,
        typer.Option(
            "--draft",
            metavar="SOURCE",
            help="A draft tier with the same tokenizer; repeat for more, cheapest first.",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision", metavar="NAME", help="int4, int8, fp32 or fp16, for checkpoints."
        ),
    ] = "int8",
    models_dir: ModelsDirOption = None,
    json: JsonOption = False,
) -> None:
    """Add a model family: a target and, if given, the draft tiers of its ladder.

    Examples:

    `hola models add mine ./my-onnxruntime-genai-model`

    `hola models add smol HuggingFaceTB/SmolLM2-360M --draft HuggingFaceTB/SmolLM2-135M`

    `hola models add mine ./big-checkpoint --draft ./small-checkpoint --precision int4`
    """
    store = _store(models_dir)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=json or not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"adding {name}", total=None)
        family = store.add(
            name,
            source,
            drafts=draft or (),
            precision=precision,
            progress=lambda step: bar.update(task, description=step),
        )
    if json:
        dump(_facts(family))
    else:
        tiers = ", ".join(tier.name for tier in family.tiers)
        print(f"added {family.name} ({tiers}) in {family.path}")


def _show_report(store: ModelStore, name: str, tier: str, out: Path | None, *, json: bool) -> None:
    from hola.compression.report import parse_report
    from hola_cli.report_page import write_pages
    from hola_compressor.artifacts import report_text

    info, text = report_text(store, name, tier)
    document = loads(text)
    report = parse_report(document)
    if json and out is None:
        dump(document)
        return
    folder = out or Path(f"{name}-report")
    try:
        files = write_pages(folder, info, report)
    except OSError as error:
        raise InvalidRequest(f"{folder} cannot be written: {error}", field="out") from error
    if json:
        dump({"files": [str(file) for file in files]})
    else:
        print(f"{info.model}/{info.tier}, {report.bits_per_weight:.2f} bits per weight")
        print(*files, sep="\n")


def _store(models_dir: str | None) -> ModelStore:
    settings = settings_for(FamilyOptions(models_dir=models_dir))
    return ModelStore.at(settings.models_dir, offline=settings.offline)


def _read(store: ModelStore, name: str) -> Family | HolaError:
    """The family, or why it cannot be used."""
    try:
        return store.get(name)
    except HolaError as error:
        return error


def _listed(name: str, family: Family | HolaError) -> dict[str, Any]:
    if isinstance(family, HolaError):
        return {"name": name, "broken": family.message}
    return _facts(family)


def _mib(family: Family) -> float:
    return sum(tier.bytes for tier in family.tiers) / MIB


def _facts(family: Family) -> dict[str, Any]:
    return {
        "name": family.name,
        "path": str(family.path),
        "description": family.description,
        "license": family.license,
        "context_length": family.context_length,
        "tokenizer_sha256": family.tokenizer_sha256,
        "mib": round(_mib(family), 1),
        "tiers": [_tier_facts(tier) for tier in family.tiers],
    }


def _tier_facts(tier: Tier) -> dict[str, Any]:
    return {
        "name": tier.name,
        "parameters": tier.parameters,
        "bytes": tier.bytes,
        "quantization": tier.quantization,
        "digest": tier.digest,
    }
