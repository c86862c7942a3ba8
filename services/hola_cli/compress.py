"""`hola compress`: a model made to fit a budget, here or by a compressor elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import typer

from hola.compression.job import JobState, JobStatus, plan_of_json
from hola.compression.request import JobRequest, Submitted
from hola.config import Settings
from hola.errors import Cancelled, HolaError, InvalidRequest, from_reason
from hola_cli.compress_plan import PlanOptions, plan_json, read_calibration
from hola_cli.compress_screen import JsonScreen, Screen, TerminalScreen, summary
from hola_cli.door import settings_for
from hola_cli.flatten import flat
from hola_cli.jsonform import dump
from hola_cli.logs import quiet
from hola_cli.options import WHERE, FamilyOptions, JsonOption, ModelsDirOption

CANCEL_S = 5.0


class Door(Protocol):
    """What the command needs of a compressor, wherever it runs."""

    async def submit(self, request: JobRequest) -> Submitted:
        """Queue a job. Raises what it is refused with."""
        ...

    def watch(self, job_id: str) -> AsyncGenerator[JobStatus]:
        """The job's status now and at every change, an ended one last."""
        ...

    async def cancel(self, job_id: str) -> bool:
        """End a job; False when it had ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """Where the job runs, and what becomes of its result."""

    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="FAMILY",
            help="Family that gets the artifact; made if there is none. Default: MODEL-lobi. "
            "Services that run the family load the artifact by themselves.",
        ),
    ] = ""
    tier: Annotated[
        str, typer.Option("--tier", metavar="TIER", help="Tier to compress. Default: the target.")
    ] = ""
    job: Annotated[
        str,
        typer.Option(
            "--job",
            metavar="ID",
            help="The job's id. Without MODEL: the job to watch, or to end, at --compressor.",
        ),
    ] = ""
    cancel: Annotated[bool, typer.Option("--cancel", help="End the job --job.")] = False
    watch: Annotated[
        bool,
        typer.Option(
            "--watch/--no-watch",
            help="Follow the job to its end; without it only its id is printed. A job of this "
            "process is always followed.",
        ),
    ] = True
    compressor: Annotated[
        str | None,
        typer.Option(
            "--compressor",
            "-c",
            metavar="ADDRESS",
            help="Compressor to ask, e.g. `localhost:7073`. Default: this process does the work.",
            rich_help_panel=WHERE,
        ),
    ] = None
    models_dir: ModelsDirOption = None
    json: JsonOption = False


@flat
def command(
    plan: PlanOptions,
    options: JobOptions,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="What to compress: a family of the store; without --compressor also a Hugging "
            "Face checkpoint directory or a hub id.",
        ),
    ] = None,
) -> None:
    """Compress a model to a budget and publish it with a report.

    Interrupted work of this process goes on when the same command is given again.
    Needs the compress extra where the work is done.

    Examples:

    `hola compress demo --target-size 14MB`

    `hola compress ./checkpoint --bits 4.5 --name small --calibration notes.txt`

    `hola compress demo --device pi-zero-2w --objective latency`

    `hola compress demo --draft-for demo --target-size 1500KB`

    `hola compress demo --plan plan.yaml --compressor localhost:7073 --no-watch`

    `hola compress --job ID --compressor localhost:7073`
    """
    if model is None and not (options.job and options.compressor):
        raise InvalidRequest("name a MODEL, or --job ID and --compressor ADDRESS", field="model")
    if options.cancel and model is not None:
        raise InvalidRequest("--cancel ends the job --job: leave MODEL out", field="cancel")
    request = None if model is None else _request(model, plan, options)
    status = asyncio.run(_run(request, options))
    if status is not None:
        _conclude(status, options)


def _request(model: str, plan: PlanOptions, options: JobOptions) -> JobRequest:
    text = plan_json(plan)
    calibration, is_jsonl = read_calibration(plan)
    job = options.job
    if not options.compressor and not job:
        job = _own_id(model, options, text, calibration)
    plan_of_json(text)
    return JobRequest(
        job_id=job,
        model=model,
        tier=options.tier,
        plan_json=text,
        calibration=calibration,
        calibration_is_jsonl=is_jsonl,
        name=options.name,
    )


def _own_id(model: str, options: JobOptions, plan: str, calibration: bytes) -> str:
    """Equal commands have equal ids, so that a second one finds what the first has done."""
    folder = os.path.expanduser(model)
    place = os.path.realpath(folder) if os.path.isdir(folder) else model
    parts = (place, options.tier, options.name, plan, hashlib.sha256(calibration).hexdigest())
    return "own-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


async def _run(request: JobRequest | None, options: JobOptions) -> JobStatus | None:
    """Submit, follow, or end; the job's last status where it was followed."""
    screen: Screen = JsonScreen() if options.json else TerminalScreen(sys.stderr)
    async with _open_door(options) as door:
        if options.cancel:
            cancelled = await door.cancel(options.job)
            if options.json:
                dump({"job_id": options.job, "cancelled": cancelled})
            else:
                print("cancelled" if cancelled else "the job had ended already")
            return None
        job_id = options.job
        if request is not None:
            submitted = await door.submit(request)
            job_id = submitted.job_id
            screen.submitted(submitted)
            if options.compressor and not options.watch:
                print(job_id) if not options.json else None
                return None
        return await _follow(door, job_id, screen)


async def _follow(door: Door, job_id: str, screen: Screen) -> JobStatus:
    with screen:
        async with aclosing(door.watch(job_id)) as statuses:
            async for status in statuses:
                screen.show(status)
    return status


def _conclude(status: JobStatus, options: JobOptions) -> None:
    """Print the artifact. Raises what the job failed with, Cancelled."""
    if status.failure is not None:
        failure = status.failure
        raise from_reason(failure.reason, failure.message, dict(failure.details))
    if status.state is JobState.CANCELLED:
        raise Cancelled(f"job {status.job_id} was cancelled")
    if status.artifact is not None and not options.json:
        print(*summary(status.artifact, options.compressor), sep="\n")


@asynccontextmanager
async def _open_door(options: JobOptions) -> AsyncIterator[Door]:
    """A compressor elsewhere, or one in this process for the time of the block."""
    settings = settings_for(FamilyOptions(models_dir=options.models_dir))
    quiet(settings)
    if options.compressor:
        from hola.rpc.compressor_client import CompressorClient

        client = CompressorClient(options.compressor, settings)
        try:
            yield client
        finally:
            await client.close()
    else:
        async with _own(settings) as own:
            yield own


@asynccontextmanager
async def _own(settings: Settings) -> AsyncIterator[Door]:
    from hola.bus.memory import MemoryBus
    from hola_compressor.app import build

    bus = MemoryBus()
    app: Any = build(settings, bus=bus, private=True)
    try:
        await app.open()
        yield app.compressor
    finally:
        with suppress(HolaError):
            await app.close()
        await bus.close()
