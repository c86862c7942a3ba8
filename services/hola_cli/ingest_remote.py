"""`hola ingest --router`: files to a router, and how far their ingest is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn

from hola.errors import DocumentInvalid, HolaError, from_reason
from hola.retrieval.ingest_job import (
    End,
    FileHead,
    IngestOptions,
    IngestPart,
    IngestReport,
    IngestState,
    Refusal,
)
from hola.retrieval.readers.content import open_raw
from hola.retrieval.readers.files import Found

if TYPE_CHECKING:
    from hola.rpc.retrieval_client import RetrievalClient

PIECE_BYTES = 256 * 1024


@dataclass(slots=True)
class Shipment:
    """Files to send, and those that turned out to be no files; `stdin` is what `-` gave."""

    options: IngestOptions
    found: list[Found]
    stdin: BinaryIO
    unread: list[Refusal] = field(default_factory=list)

    def refuse(self, source: str, error: HolaError | OSError) -> None:
        """Note a file that cannot be read here."""
        if isinstance(error, HolaError):
            reason, message = error.reason, error.message
        else:
            reason = "DOCUMENT_INVALID"
            message = f"{source} cannot be read: {error.strerror or error}"
        self.unread.append(Refusal(source=source, reason=reason, message=message))

    def size(self) -> int:
        """Bytes there are to send, as far as it can be told."""
        total = 0
        for entry in self.found:
            try:
                total += entry.path.stat().st_size
            except OSError:
                continue
        return total

    async def parts(self, sent: Callable[[int], None]) -> AsyncGenerator[IngestPart, None]:
        """Everything, in order; `sent` is told the bytes of each piece."""
        yield self.options
        for entry in self.found:
            try:
                file = self.stdin if str(entry.path) == "-" else open_raw(entry.path)
            except (HolaError, OSError) as error:
                self.refuse(entry.source, error)
                continue
            form = entry.form or ("text" if file is self.stdin else "")
            yield FileHead(source=entry.source, name=entry.path.name, form=form)
            with file:
                while piece := await asyncio.to_thread(_piece, file, entry.source):
                    yield piece
                    sent(len(piece))
        yield End(incomplete=bool(self.unread))


async def ship(
    client: RetrievalClient, shipment: Shipment, *, follow: bool, shown: bool
) -> IngestReport:
    """Send everything; the last report, or with `follow` False that of the queued job.

    Raises what the call was refused with, and what a job failed with.
    """
    with _bar(shown, DownloadColumn()) as bar:
        task = bar.add_task("sending", total=shipment.size())
        parts = shipment.parts(lambda count: bar.advance(task, count))
        async with aclosing(parts):
            report = await client.ingest(parts)
    if report.job_id and follow:
        report = await watch(client, report.job_id, shown=shown)
    return report


async def watch(client: RetrievalClient, job_id: str, *, shown: bool) -> IngestReport:
    """Follow a job to its end, with a bar; its last report. Raises what it failed with."""
    report: IngestReport | None = None
    columns = (MofNCompleteColumn(), TextColumn("files, {task.fields[facts]}"))
    with _bar(shown, *columns) as bar:
        task = bar.add_task("queued", total=None, facts="")
        async with aclosing(client.watch(job_id)) as reports:
            async for report in reports:
                facts = f"{report.added} added, {report.refused} refused, {report.chunks} chunks"
                bar.update(
                    task,
                    description=report.state.name.lower(),
                    total=report.files,
                    completed=report.files_done,
                    facts=facts,
                )
    if report is None:
        raise AssertionError("a watch ends with a report or an error")
    if report.state is IngestState.FAILED:
        raise from_reason(report.reason, f"ingest {job_id} failed: {report.message}", {})
    return report


def facts_of(report: IngestReport, unread: list[Refusal]) -> dict[str, Any]:
    """A report as `hola ingest --json` prints it."""
    names = ("added", "unchanged", "pruned", "chunks", "files", "bytes", "job_id", "state")
    return {
        "collection": report.collection,
        **{name: getattr(report, name) for name in names},
        "failed": [*unread, *report.refusals],
        "failed_total": report.refused + len(unread),
    }


def lines_of(report: IngestReport, unread: list[Refusal]) -> Iterator[str]:
    """A report for people."""
    if not report.ended:
        yield (
            f"{report.collection}: {report.files} files are queued as ingest {report.job_id};"
            f" `hola collections watch {report.job_id}` follows it"
        )
        return
    pruned = f", {report.pruned} pruned" if report.pruned else ""
    failed = report.refused + len(unread)
    yield (
        f"{report.collection}: {report.added} added, {report.unchanged} unchanged{pruned}, "
        f"{failed} failed; {report.chunks} chunks"
    )


def say_refused(report: IngestReport, unread: list[Refusal]) -> None:
    """A line on stderr for each file that was not taken."""
    console = Console(stderr=True, highlight=False)
    for one in (*unread, *report.refusals):
        console.print(f"[red]failed:[/red] {escape(one.message)}", soft_wrap=True)
    if more := report.refused - len(report.refusals):
        console.print(f"[red]failed:[/red] and {more} more", soft_wrap=True)


def _piece(file: BinaryIO, source: str) -> bytes:
    try:
        return file.read(PIECE_BYTES)
    except OSError as error:
        # Its head is sent: half a file must not be ingested, so the whole call is given up.
        message = f"{source} cannot be read to its end: {error.strerror or error}"
        raise DocumentInvalid(message, source=source) from error


@contextmanager
def _bar(shown: bool, *columns: Any) -> Iterator[Progress]:
    console = Console(stderr=True, highlight=False)
    shape = (TextColumn("{task.description}"), BarColumn(), *columns)
    disable = not (shown and sys.stderr.isatty())
    with Progress(*shape, console=console, transient=True, disable=disable) as bar:
        yield bar
