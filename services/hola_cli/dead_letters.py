"""`hola dead-letters`: the jobs that no drafter could finish, and another try for them."""

from __future__ import annotations

import asyncio
import datetime
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hola.bus.from_settings import bus_from
from hola.bus.ports import JobQueue
from hola.bus.streams import BusLimits
from hola.config import Settings
from hola.errors import HolaError, InvalidRequest, Overloaded
from hola.types import DeadLetter, GenerateJob
from hola_cli.door import settings_for
from hola_cli.jsonform import dump
from hola_cli.logs import quiet
from hola_cli.options import FamilyOptions, JsonOption

MOST = BusLimits().dead_letter_limit
REASON_CHARS = 70

app = typer.Typer(
    no_args_is_help=True,
    help="Jobs that were given up: see why, and queue them again. They are on the bus, HOLA_BUS.",
)


@app.command("list")
def show(
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", help="Most of them, youngest first.")
    ] = 100,
    json: JsonOption = False,
) -> None:
    """List the jobs that were given up, youngest first.

    A job gets here when so many drafters as HOLA_JOB_ATTEMPTS took it and none finished, or when
    nobody can read it. Its request has ended with a failure; the prompt is not shown.

    Examples:

    `hola dead-letters list`

    `hola dead-letters list --json | jq -r .id`
    """
    if not 1 <= limit <= MOST:
        raise InvalidRequest(f"--limit {limit}: expected 1 to {MOST}", field="limit")
    letters = asyncio.run(_read(_settings(), limit))
    if json:
        for letter in letters:
            dump(letter)
    elif letters:
        Console(highlight=False).print(_table(letters))
    else:
        print("no dead letters")


@app.command()
def replay(
    letter_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="The id that `hola dead-letters list` shows.")
    ] = "",
    all_: Annotated[bool, typer.Option("--all", help="All of them, oldest first.")] = False,
    json: JsonOption = False,
) -> None:
    """Queue a job again under its request id, with a new journal; the letter is gone then.

    Clients attach to it by `hola resume`. With --all, one that cannot be queued is named and left
    where it is, and a full queue ends the command.

    Examples:

    `hola dead-letters replay 1760000000000-0`

    `hola dead-letters replay --all`
    """
    if bool(letter_id) == all_:
        raise InvalidRequest("give one ID, or --all", field="id")
    settings = _settings()
    code = asyncio.run(_replay_all(settings, json) if all_ else _replay(settings, letter_id, json))
    if code:
        raise typer.Exit(code)


def _settings() -> Settings:
    settings = settings_for(FamilyOptions())
    if settings.bus.startswith("memory:"):
        raise InvalidRequest(
            "HOLA_BUS=memory: lives in one process and has no dead letters for another:"
            " set HOLA_BUS to the bus of the services",
            field="bus",
        )
    quiet(settings)
    return settings


@asynccontextmanager
async def _jobs(settings: Settings) -> AsyncIterator[JobQueue]:
    bus = await bus_from(settings)
    try:
        yield bus.jobs
    finally:
        await bus.close()


async def _read(settings: Settings, limit: int) -> list[DeadLetter]:
    async with _jobs(settings) as jobs:
        return await jobs.dead_letters(limit)


async def _replay(settings: Settings, letter_id: str, json: bool) -> int:
    async with _jobs(settings) as jobs:
        _say(letter_id, await jobs.replay(letter_id), json)
    return 0


async def _replay_all(settings: Settings, json: bool) -> int:
    """The exit code of the last letter that could not be queued."""
    code = 0
    async with _jobs(settings) as jobs:
        for letter in reversed(await jobs.dead_letters(MOST)):
            try:
                _say(letter.id, await jobs.replay(letter.id), json)
            except Overloaded:
                raise
            except HolaError as error:
                print(f"{letter.id}: {error.message}", file=sys.stderr)
                code = error.exit_code
    return code


def _say(letter_id: str, job: GenerateJob, json: bool) -> None:
    if json:
        dump({"id": letter_id, "request_id": job.request_id, "tenant": job.tenant})
    else:
        print(f"{letter_id}: request {job.request_id} of tenant {job.tenant} is queued again")


def _table(letters: list[DeadLetter]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("id", "given up (UTC)", "tenant", "request", "reason"):
        table.add_column(column, overflow="fold")
    for letter in letters:
        reason = letter.reason
        if len(reason) > REASON_CHARS:
            reason = reason[: REASON_CHARS - 1] + "…"
        shown = replace(letter, reason=reason, request_id=letter.request_id or "(unreadable)")
        table.add_row(
            shown.id,
            _utc(shown.died_unix_ms),
            escape(shown.tenant),
            escape(shown.request_id),
            escape(shown.reason),
        )
    return table


def _utc(unix_ms: int) -> str:
    when = datetime.datetime.fromtimestamp(unix_ms / 1000, tz=datetime.UTC)
    return when.strftime("%Y-%m-%d %H:%M:%S")
