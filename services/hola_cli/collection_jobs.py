"""`hola collections jobs` and `watch`: the ingests that a router runs in the background."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer

from hola.retrieval.ingest_job import IngestReport
from hola_cli.ingest_remote import facts_of, lines_of, say_refused, watch
from hola_cli.jsonform import dump
from hola_cli.options import JsonOption
from hola_cli.remote_library import LibraryOption, library_at, needed


def jobs(router: LibraryOption = None, json: JsonOption = False) -> None:
    """List the ingest jobs of a router's tenant, youngest first.

    Examples:

    `hola collections jobs --router edge-box:7070`
    """
    address = needed(router)

    async def work() -> tuple[IngestReport, ...]:
        async with library_at(address) as client:
            return (await client.stats()).jobs

    found = asyncio.run(work())
    if json:
        dump(found)
        return
    if not found:
        print(f"no ingest job at {address}")
        return
    for one in found:
        age_s = max(time.time() - one.submitted_unix_ms / 1000, 0)
        print(
            f"{one.job_id}  {one.collection}: {one.state.name.lower()}, {one.files_done} of"
            f" {one.files} files, {one.added} added, {one.refused} refused, {age_s:.0f} s ago"
        )


def watch_job(
    job_id: Annotated[
        str, typer.Argument(metavar="JOB", help="The id that `hola ingest` printed.")
    ],
    router: LibraryOption = None,
    json: JsonOption = False,
) -> None:
    """Follow an ingest job to its end; Ctrl-C leaves it alone.

    Exit code 1 where it refused a file, and that of the error where it failed as a whole.

    Examples:

    `hola collections watch 7f3a... --router edge-box:7070`
    """
    address = needed(router)

    async def work() -> IngestReport:
        async with library_at(address) as client:
            return await watch(client, job_id, shown=not json)

    report = asyncio.run(work())
    if json:
        dump(facts_of(report, []))
    else:
        say_refused(report, [])
        for line in lines_of(report, []):
            print(line)
    if report.refused:
        raise typer.Exit(1)
