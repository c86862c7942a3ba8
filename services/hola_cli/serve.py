"""`hola node`: every service in one process, for one machine that needs no Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated

import typer

from hola import tracing
from hola.config import Settings
from hola.telemetry import Metrics, configure_logging, serve_metrics
from hola_cli.door import flags_of, loading
from hola_cli.jsonform import dump
from hola_cli.options import FamilyOptions, JsonOption, ModelOption, ModelsDirOption
from hola_cli.said import said

MEMORY = "memory:"
SERVICE = "node"


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

    `HOLA_METRICS_LISTEN=127.0.0.1:9090 hola node`
    """
    from hola.config import load_settings

    flags = flags_of(FamilyOptions(model=model, models_dir=models_dir))
    read = partial(load_settings, dict(os.environ), flags)
    settings = read()
    configure_logging(SERVICE, settings)
    where = listen or settings.listen_on("router")
    where_jobs = bus or said("HOLA_BUS") or MEMORY
    with tracing.exporting(SERVICE, settings):
        asyncio.run(_serve(settings, read, where, where_jobs, json))


async def _serve(
    settings: Settings, read: Callable[[], Settings], listen: str, bus: str, json: bool
) -> None:
    from hola.reload import Reloader
    from hola_cli.node import open_node

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    metrics = Metrics(SERVICE)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serve_metrics(settings.metrics_listen, metrics))
        with loading(settings.model):
            opening = open_node(settings, listen=listen, bus=bus, metrics=metrics)
            node = await stack.enter_async_context(opening)
        Reloader(SERVICE, settings, read, node, metrics).listen()
        _announce(node.address, settings.model, bus, json, port)
        await stopping.wait()
    print("stopped", file=sys.stderr)


def _announce(address: str, model: str, bus: str, json: bool, metrics_port: int) -> None:
    if json:
        dump({"address": address, "model": model, "bus": bus, "metrics_port": metrics_port})
        return
    print(f"serving {model} at {address}", flush=True)
    print(f'  hola generate --router {address} "your prompt"', flush=True)
    print("Ctrl-C stops it.", flush=True)
