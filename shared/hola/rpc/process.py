"""The life of a service process: settings, logs, start, wait for a signal, orderly stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from hola import tracing
from hola.config import Settings, load_settings, variables
from hola.errors import HolaError
from hola.reload import Reloader
from hola.rpc.server import listen_address
from hola.security.tls import serves_tls, watched_pems
from hola.settings_sources import parse_flags
from hola.telemetry import Metrics, configure_logging, get_logger, serve_metrics

log = get_logger(__name__)


class App(Protocol):
    """What a service's `app.build(settings, metrics=...)` gives."""

    @property
    def address(self) -> str:
        """Where it serves, after `start`."""
        ...

    async def start(self) -> None:
        """Load, connect, then serve. Raises HolaError; then `stop` is still called."""
        ...

    async def wait(self) -> None:
        """Run until stopped; raises HolaError when the service cannot go on."""
        ...

    async def stop(self) -> None:
        """Drain within HOLA_DRAIN_S and free everything. Idempotent, also after a failed start."""
        ...


Build = Callable[[Settings, Metrics], App]


def run(
    service: str,
    build: Build,
    environ: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> int:
    """Run a service until SIGTERM or SIGINT; SIGHUP reloads. The exit code.

    `arguments` are the command line's, one flag per setting. A HolaError (a wrong setting, a
    missing model) is printed in one line and gives its exit code.
    """
    try:
        about = f"Runs a HOLA {service}. Flags come before HOLA_* variables, those before a file."
        flags = parse_flags(variables(), arguments, program=f"hola-{service}", about=about)
        read = partial(load_settings, dict(os.environ if environ is None else environ), flags)
        settings = read()
        settings = settings.model_copy(update={"listen": settings.listen_on(service)})
        listen_address(settings.listen, settings)
        if serves_tls(settings):
            watched_pems(settings)  # a wrong file is told now, and not after a model has loaded
        configure_logging(service, settings)
        with tracing.exporting(service, settings):
            asyncio.run(_run(service, build, settings, read))
    except HolaError as error:
        print(f"hola-{service}: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


async def _run(
    service: str, build: Build, settings: Settings, read: Callable[[], Settings]
) -> None:
    metrics = Metrics(service)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    app = build(settings, metrics)
    Reloader(service, settings, read, app, metrics).listen()
    async with serve_metrics(settings.metrics_listen, metrics) as port:
        if port:
            log.info("metrics", port=port)
        try:
            await _until_stopped(app, stopping)
        finally:
            await app.stop()
            log.info("stopped")


async def _until_stopped(app: App, stopping: asyncio.Event) -> None:
    """Start and run; a signal interrupts either."""
    signalled = asyncio.create_task(stopping.wait())
    running = asyncio.create_task(_start_and_wait(app))
    try:
        await asyncio.wait({signalled, running}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        else:
            log.info("stopping", reason="signal")
    finally:
        for task in (signalled, running):
            task.cancel()
        await asyncio.gather(signalled, running, return_exceptions=True)


async def _start_and_wait(app: App) -> None:
    await app.start()
    await app.wait()
