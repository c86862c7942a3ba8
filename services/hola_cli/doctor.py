"""`hola doctor`: looks at everything HOLA needs here and says what to do about what is missing."""

from __future__ import annotations

import asyncio
import enum
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version as installed_version
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from hola import __version__
from hola.config import Settings
from hola.engines.memory import available_bytes
from hola.errors import HolaError
from hola.models.family import Family, verify_digests
from hola.models.store import ModelStore
from hola.retrieval.data_dir import data_dir
from hola.retrieval.embedder import find_embedder
from hola.retrieval.embedder_files import NONE, check_digest, read_manifest
from hola.retrieval.store_from import SQLITE, store_from
from hola.types import DEFAULT_TENANT
from hola_cli.door import settings_for
from hola_cli.jsonform import dump
from hola_cli.options import FamilyOptions, JsonOption, ModelsDirOption
from hola_cli.plan import show

MIB = 2**20
# What each extra brings, and what it is for. The base distribution is not listed: this runs on it.
EXTRAS = {
    "edge": (("onnxruntime", "tokenizers"), "running models (drafter, verifier, hola generate)"),
    "compress": (
        ("torch", "transformers", "onnxruntime_genai", "onnx"),
        "adding Hugging Face checkpoints, scale models",
    ),
    "retrieval": (("usearch", "pypdf"), "reading PDF, searching many vectors quickly"),
    "weaviate": (("weaviate",), "retrieval from Weaviate"),
    "otel": (("opentelemetry",), "traces"),
}
NEEDED_EXTRA = "edge"
LIBRARIES = ("grpcio", "protobuf", "redis", "numpy", "onnxruntime", "tokenizers")
BUS_WAIT_S = 3.0


class Status(enum.StrEnum):
    """Verdict of one check; only `broken` gives exit code 1."""

    ok = "ok"
    note = "note"
    broken = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at: what was found, and what to do when that is not enough."""

    check: str
    status: Status
    found: str
    remedy: str = ""


def command(
    bus: Annotated[
        str | None,
        typer.Option(
            "--bus", metavar="URL", help="Redis to reach. Default: HOLA_BUS if set, else none."
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Predict instead what HOLA_MODEL's tiers need in memory."),
    ] = False,
    memory: Annotated[
        list[float] | None,
        typer.Option(
            "--memory", metavar="GB", min=0.1, help="Memory to plan for; repeat. Default: 4 and 8."
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            "--tokens", metavar="N", min=1, help="Length of a session. Default: the context."
        ),
    ] = None,
    models_dir: ModelsDirOption = None,
    json: JsonOption = False,
) -> None:
    """Check versions, extras, providers, memory, bus, document store and every model's digests.

    Exit code 1 when something is broken; each such line says what to do. With --plan nothing is
    checked or loaded: it says how much memory the tiers need, and how many sessions fit.

    Examples:

    `hola doctor`

    `hola doctor --bus redis://localhost:6379 --json`

    `hola doctor --plan --memory 4 --memory 8 --tokens 2048`
    """
    if plan:
        settings = settings_for(FamilyOptions(models_dir=models_dir))
        family = ModelStore.at(settings.models_dir).get(settings.model)
        show(family, memory or (4, 8), tokens or family.context_length, json=json)
        return
    findings = list(examine(bus, models_dir, quiet=json))
    broken = [finding for finding in findings if finding.status is Status.broken]
    if json:
        dump({"ok": not broken, "findings": findings})
    else:
        _print(findings)
    if broken:
        raise typer.Exit(1)


def examine(bus: str | None, models_dir: str | None, *, quiet: bool) -> Iterator[Finding]:
    """Every check in turn. Never raises for what it finds."""
    yield versions()
    yield from extras()
    yield providers()
    yield memory()
    try:
        settings = settings_for(FamilyOptions(models_dir=models_dir))
    except HolaError as error:
        yield Finding(
            check="settings", status=Status.broken, found=error.message, remedy="fix the variable"
        )
        return
    yield Finding(check="settings", status=Status.ok, found="every HOLA_* variable is known")
    yield reach_bus(bus or os.environ.get("HOLA_BUS", ""), settings)
    yield from models(settings, quiet=quiet)
    yield document_store(settings)
    yield embedder(settings)


def versions() -> Finding:
    """HOLA's, Python's and the libraries' versions."""
    parts = [f"hola {__version__}", f"Python {platform.python_version()} on {platform.machine()}"]
    for library in LIBRARIES:
        try:
            parts.append(f"{library} {installed_version(library)}")
        except PackageNotFoundError:
            continue
    return Finding(check="versions", status=Status.ok, found=", ".join(parts))


def extras() -> Iterator[Finding]:
    """One finding per extra; only the one that runs models is needed."""
    for extra, (modules, purpose) in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if not missing:
            yield Finding(check=f"extra {extra}", status=Status.ok, found=f"installed: {purpose}")
            continue
        yield Finding(
            check=f"extra {extra}",
            status=Status.broken if extra == NEEDED_EXTRA else Status.note,
            found=f"{', '.join(missing)} not installed: no {purpose}",
            remedy=f"pip install 'hola-edge[{extra}]'",
        )


def providers() -> Finding:
    """Execution providers of the installed onnxruntime."""
    try:
        import onnxruntime
    except ImportError as error:
        return Finding(
            check="providers",
            status=Status.broken,
            found=f"onnxruntime cannot be imported: {error}",
            remedy="pip install 'hola-edge[edge]'",
        )
    names = ", ".join(onnxruntime.get_available_providers())
    return Finding(check="providers", status=Status.ok, found=names)


def memory() -> Finding:
    """Memory that models may use."""
    free = available_bytes()
    if free is None:
        return Finding(
            check="memory",
            status=Status.note,
            found="free memory cannot be read on this system",
            remedy="set HOLA_MEMORY_BUDGET_MB",
        )
    return Finding(check="memory", status=Status.ok, found=f"{free // MIB} MiB free")


def reach_bus(url: str, settings: Settings) -> Finding:
    """Whether the bus answers, with the settings' certificates; not asked without a URL."""
    if not url:
        return Finding(
            check="bus", status=Status.note, found="not asked for", remedy="--bus redis://host:6379"
        )
    try:
        asyncio.run(_ping(settings.model_copy(update={"bus": url})))
    except (HolaError, TimeoutError) as error:
        why = error.message if isinstance(error, HolaError) else f"no answer in {BUS_WAIT_S:g} s"
        return Finding(
            check="bus",
            status=Status.broken,
            found=why,
            remedy="start Redis 7 or newer there, or correct HOLA_BUS",
        )
    return Finding(check="bus", status=Status.ok, found="answers")


async def _ping(settings: Settings) -> None:
    from hola.bus.from_settings import bus_from

    async with asyncio.timeout(BUS_WAIT_S):
        bus = await bus_from(settings)
        try:
            await bus.ping()
        finally:
            await bus.close()


def document_store(settings: Settings) -> Finding:
    """Whether the document store can be reached and read."""
    try:
        held = asyncio.run(_collections(settings))
    except HolaError as error:
        return Finding(
            check="document store",
            status=Status.broken,
            found=error.message,
            remedy="correct HOLA_STORE, or HOLA_STORE=sqlite for files in HOLA_DATA_DIR",
        )
    place = str(data_dir(settings)) if settings.store == SQLITE else settings.store
    found = f"{place}: {held} collections of tenant {DEFAULT_TENANT}"
    return Finding(check="document store", status=Status.ok, found=found)


async def _collections(settings: Settings) -> int:
    store = store_from(settings)
    try:
        return len(await store.collections(DEFAULT_TENANT))
    finally:
        await store.close()


def models(settings: Settings, *, quiet: bool) -> Iterator[Finding]:
    """Every family found, with all files read and compared with their digests."""
    store = ModelStore.at(settings.models_dir)
    names = store.names()
    if not names:
        yield Finding(
            check="models",
            status=Status.broken,
            found=f"no model family in {', '.join(map(str, store.roots))}",
            remedy="set HOLA_MODELS_DIR, or `hola models add NAME SOURCE`",
        )
        return
    where = ", ".join(map(str, store.roots))
    yield Finding(check="models", status=Status.ok, found=f"{len(names)} in {where}")
    for name in names:
        yield _checked(store, name, quiet)


def embedder(settings: Settings) -> Finding:
    """Whether passages can be found by likeness, or by their words alone."""
    if settings.embedder == NONE:
        return Finding(check="embedder", status=Status.ok, found="none wanted: BM25 alone")
    folder = find_embedder(settings)
    if folder is None:
        return Finding(
            check="embedder",
            status=Status.note,
            found=f"no embedder {settings.embedder!r}: retrieval is BM25 alone",
            remedy="`hola embedder add`, or HOLA_EMBEDDER=none if that is meant",
        )
    try:
        manifest = read_manifest(folder)
        check_digest(folder, manifest)
    except HolaError as error:
        return Finding(
            check="embedder",
            status=Status.broken,
            found=error.message,
            remedy="delete the folder and `hola embedder add` anew",
        )
    found = f"{manifest.id}: {manifest.dimensions} dimensions, {manifest.precision}"
    return Finding(check="embedder", status=Status.ok, found=found)


def _checked(store: ModelStore, name: str, quiet: bool) -> Finding:
    try:
        family = store.get(name)
        read_all(family, quiet=quiet)
    except HolaError as error:
        return Finding(
            check=f"model {name}",
            status=Status.broken,
            found=error.message,
            remedy="restore the folder from where it came, or add it anew",
        )
    size_mib = sum(tier.bytes for tier in family.tiers) / MIB
    tiers = ", ".join(tier.name for tier in family.tiers)
    found = f"{tiers}: {size_mib:.0f} MiB, every digest is right"
    return Finding(check=f"model {name}", status=Status.ok, found=found)


def read_all(family: Family, *, quiet: bool) -> None:
    """Read every file of a family against its digest, with a progress bar on stderr.

    Raises ArtifactCorrupt at the first that differs.
    """
    console = Console(stderr=True, quiet=quiet)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"reading {family.name}", total=sum(t.bytes for t in family.tiers))
        verify_digests(family, progress=lambda _, size: bar.advance(task, size))


def _print(findings: list[Finding]) -> None:
    styles = {Status.ok: "green", Status.note: "yellow", Status.broken: "red"}
    table = Table("check", "", "found", "what to do")
    for finding in findings:
        status = f"[{styles[finding.status]}]{finding.status}[/]"
        table.add_row(finding.check, status, escape(finding.found), escape(finding.remedy))
    Console(highlight=False).print(table)
