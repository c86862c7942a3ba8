"""`hola ingest`: files into a collection, with a progress bar and one line for each that fails."""

from __future__ import annotations

import asyncio
import enum
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from hola.errors import HolaError, InvalidRequest
from hola.retrieval import ingest_job
from hola.retrieval.chunking import DEFAULT_MAX_CHARS, DEFAULT_OVERLAP_CHARS
from hola.retrieval.ingest import Ingester
from hola.retrieval.readers.files import Found, Read, Reader, find_files
from hola.retrieval.readers.limits import MIB, Limits
from hola.retrieval.tally import Tally, prune
from hola_cli.flatten import flat
from hola_cli.ingest_remote import Shipment, facts_of, lines_of, say_refused, ship
from hola_cli.jsonform import dump
from hola_cli.knowledge import KnowledgeOptions, opened
from hola_cli.options import JsonOption
from hola_cli.remote_library import LibraryOption, check_remote, library_at

STDIN = "-"


class FormatName(enum.StrEnum):
    """Values of --format."""

    text = "text"
    markdown = "markdown"
    html = "html"
    pdf = "pdf"
    jsonl = "jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """How files are read and cut."""

    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="NAME",
            help="What the one path is called in the collection. Default: its absolute path; "
            "`stdin` for `-`.",
        ),
    ] = None
    form: Annotated[
        FormatName | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="text, markdown, html, pdf or jsonl. Default: by the file's name; text for others "
            "and for `-`.",
        ),
    ] = None
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Delete what came from these paths before and is not there any more. Nothing is "
            "deleted when a file failed.",
        ),
    ] = False
    chunk_chars: Annotated[
        int,
        typer.Option("--chunk-chars", metavar="N", min=40, help="Most characters of a chunk."),
    ] = DEFAULT_MAX_CHARS
    overlap_chars: Annotated[
        int,
        typer.Option(
            "--overlap-chars", metavar="N", min=0, help="Most that a chunk repeats of the last."
        ),
    ] = DEFAULT_OVERLAP_CHARS
    max_mb: Annotated[
        int,
        typer.Option(
            "--max-mb",
            metavar="N",
            min=1,
            help="Largest document, MiB unpacked; files of JSON lines may be of any size. A router "
            "has a limit of its own.",
        ),
    ] = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOptions:
    """Where files are sent, and whether their ingest is waited for."""

    router: LibraryOption = None
    background: Annotated[
        bool,
        typer.Option(
            "--background",
            help="With --router: make it a job of the router's and do not wait for its end. Large "
            "ingests become one anyway, and are waited for without this.",
        ),
    ] = False
    follow: Annotated[
        bool,
        typer.Option(
            "--watch", help="With --background: follow the job to its end; Ctrl-C leaves it alone."
        ),
    ] = False


@flat
def command(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Files or folders; `-` reads standard input."),
    ],
    how: IngestOptions,
    what: KnowledgeOptions,
    remote: RemoteOptions,
    json: JsonOption = False,
) -> None:
    """Read text, Markdown, HTML, PDF or JSON lines into a collection, made if it is not there.

    What has not changed is left alone, so this may be run again at any time. A file that cannot be
    read gives one line on stderr and exit code 1; the others are ingested.

    Examples:

    `hola ingest ./handbook --collection work`

    `curl -s https://example.com | hola ingest - --format html --source example.com`

    `hola ingest corpus.jsonl.gz --prune --json`

    `hola ingest ./handbook --router edge-box:7070 --background`
    """
    if how.source is not None and len(paths) > 1:
        raise InvalidRequest("--source names one path, not several", field="source")
    if not remote.router and (remote.background or remote.follow):
        raise InvalidRequest("--background and --watch need --router", field="router")
    with _standard_input(paths, how) as stdin:
        if remote.router:
            check_remote(what)
            failed = asyncio.run(_send(paths, how, what, remote, stdin=stdin, json=json))
        else:
            failed = _ingest_here(paths, how, what, stdin=stdin, json=json)
    if failed:
        raise typer.Exit(1)


def _ingest_here(
    paths: list[str], how: IngestOptions, what: KnowledgeOptions, *, stdin: BinaryIO, json: bool
) -> bool:
    """Whether a file failed."""
    tally = asyncio.run(_ingest(paths, how, what, stdin=stdin, quiet=json))
    if json:
        facts = {name: getattr(tally, name) for name in ("added", "unchanged", "pruned", "chunks")}
        dump({"collection": what.collection, **facts, "failed": tally.refusals})
    else:
        pruned = f", {tally.pruned} pruned" if tally.pruned else ""
        print(
            f"{what.collection}: {tally.added} added, {tally.unchanged} unchanged{pruned}, "
            f"{tally.refused} failed; {tally.chunks} chunks"
        )
    return tally.refused > 0


async def _send(
    paths: list[str],
    how: IngestOptions,
    what: KnowledgeOptions,
    remote: RemoteOptions,
    *,
    stdin: BinaryIO,
    json: bool,
) -> bool:
    """Whether a file failed, as far as it is known."""
    found, missing = await asyncio.to_thread(_find, paths, how)
    asked = ingest_job.IngestOptions(
        collection=what.collection,
        chunk_chars=how.chunk_chars,
        overlap_chars=how.overlap_chars,
        prune=tuple(_called(path, how) for path in paths) if how.prune else (),
        background=True if remote.background else None,
    )
    shipment = Shipment(options=asked, found=found, stdin=stdin)
    for error in missing:
        shipment.refuse(error.details.get("source", ""), error)
    async with library_at(remote.router or "") as client:
        follow = remote.follow or not remote.background
        report = await ship(client, shipment, follow=follow, shown=not json)
    if json:
        dump(facts_of(report, shipment.unread))
    else:
        say_refused(report, shipment.unread)
        for line in lines_of(report, shipment.unread):
            print(line)
    return bool(report.refused or shipment.unread)


async def _ingest(
    paths: list[str],
    how: IngestOptions,
    what: KnowledgeOptions,
    *,
    stdin: BinaryIO,
    quiet: bool,
) -> Tally:
    tally = Tally()
    console = Console(stderr=True, highlight=False)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("files, {task.fields[embedded]} chunks embedded"),
    )  # fmt: skip
    shown = not quiet and sys.stderr.isatty()
    async with opened(what.settings()) as (store, embedder):
        with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
            task = bar.add_task(escape(what.collection), total=None, embedded=0)
            embedded = 0

            def count_embedded(chunks: int) -> None:
                nonlocal embedded
                embedded += chunks
                bar.update(task, embedded=embedded)

            ingester = Ingester(
                store,
                embedder,
                max_chars=how.chunk_chars,
                overlap_chars=how.overlap_chars,
                embedded=count_embedded,
            )
            await ingester.open(what.tenant, what.collection)
            found, missing = await asyncio.to_thread(_find, paths, how)
            bar.update(task, total=len(found))
            with Reader(Limits(file_bytes=how.max_mb * MIB)) as reader:
                documents = _read(reader, found, missing, stdin, lambda: bar.advance(task))
                ingesting = ingester.ingest(what.tenant, what.collection, documents)
                async with aclosing(ingesting):
                    async for one in ingesting:
                        tally.count(one)
                        if one.error is not None and not quiet:
                            console.print(
                                f"[red]failed:[/red] {escape(one.error.message)}", soft_wrap=True
                            )
        if how.prune and not tally.refused:
            names = [_called(path, how) for path in paths]
            tally.pruned = await prune(store, what.tenant, what.collection, names, tally.seen)
    return tally


@contextmanager
def _standard_input(paths: list[str], how: IngestOptions) -> Iterator[BinaryIO]:
    """Standard input in a temporary file, if it is among the paths.

    It is read here, in the main thread, where an interrupt ends the wait for more of it. More than
    a document may have is left unread; JSON lines are read to their end.
    """
    with tempfile.SpooledTemporaryFile(max_size=16 * MIB) as spool:
        if STDIN in paths:
            bounded = how.form is not FormatName.jsonl
            left = how.max_mb * MIB + 1
            while part := sys.stdin.buffer.read(min(MIB, left) if bounded else MIB):
                spool.write(part)
                left -= len(part)
            spool.seek(0)
        yield cast("BinaryIO", spool)


def _find(paths: list[str], how: IngestOptions) -> tuple[list[Found], list[HolaError]]:
    """Files to read, and the paths where nothing is."""
    found: list[Found] = []
    missing: list[HolaError] = []
    form = how.form.value if how.form else None
    for path in paths:
        if path == STDIN:
            found.append(Found(Path(STDIN), _called(path, how), form))
            continue
        try:
            found += find_files(Path(path), _called(path, how), form)
        except HolaError as error:
            missing.append(error)
    return found, missing


def _called(path: str, how: IngestOptions) -> str:
    if how.source is not None:
        return how.source
    return "stdin" if path == STDIN else os.path.abspath(path)


def _read(
    reader: Reader,
    found: list[Found],
    missing: list[HolaError],
    stdin: BinaryIO,
    advance: Callable[[], None],
) -> Iterator[Read]:
    """Everything in the files; blocking, for the ingester's thread."""
    yield from missing
    for entry in found:
        if str(entry.path) == STDIN:
            yield from reader.read_open(stdin, entry.source, entry.form or "text")
        else:
            yield from reader.read(entry)
        advance()
