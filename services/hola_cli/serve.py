"""`hola node`: every service in one process, for one machine that needs no Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import Annotated

import typer

from hola.config import Settings
from hola.telemetry import configure_logging
from hola_cli.door import loading, settings_for
from hola_cli.jsonform import dump
from hola_cli.options import FamilyOptions, JsonOption, ModelOption, ModelsDirOption

MEMORY = "memory:"


def command(
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            "-l",
            metavar="ADDRESS",
            help="Where to serve. Default: HOLA_LISTEN, else 127.0.0.1:7070; port 0 picks one.",
        ),
    ] = None,
    bus: Annotated[
        str | None,
        typer.Option(
            "--bus",
            metavar="URL",
            help="Jobs and journals: memory: or redis://... Default: HOLA_BUS, else memory:",
        ),
    ] = None,
    model: ModelOption = None,
    models_dir: ModelsDirOption = None,
    json: JsonOption = False,
) -> None:
    """Run router, drafter and verifier in this process until Ctrl-C.

    Examples:

    `hola node`

    `hola node --listen unix:///tmp/hola.sock`

    `HOLA_INSECURE=1 hola node --listen 0.0.0.0:7070 --bus redis://localhost:6379/0`
    """
    settings = settings_for(FamilyOptions(model=model, models_dir=models_dir))
    configure_logging("node", settings)
    where = listen or settings.listen_on("router")
    asyncio.run(_serve(settings, where, bus or os.environ.get("HOLA_BUS", "") or MEMORY, json))


async def _serve(settings: Settings, listen: str, bus: str, json: bool) -> None:
    from hola_cli.node import open_node

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        with loading(settings.model):
            node = await stack.enter_async_context(open_node(settings, listen=listen, bus=bus))
        _announce(node.address, settings.model, bus, json)
        await stopping.wait()
    print("stopped", file=sys.stderr)


def _announce(address: str, model: str, bus: str, json: bool) -> None:
    if json:
        dump({"address": address, "model": model, "bus": bus})
        return
    print(f"serving {model} at {address}", flush=True)
    print(f'  hola generate --router {address} "your prompt"', flush=True)
    print("Ctrl-C stops it.", flush=True)
