"""Services as processes of their own, on loopback ports, for as long as a block runs."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from hola.errors import HolaError
from hola_bench.models import Models

T = TypeVar("T")
START_S = 60.0
WORK_S = 120.0
POLL_S = 0.05


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(models: Models, **settings: object) -> dict[str, str]:
    """A service's environment: this one's without HOLA_*, the models, and these HOLA_* settings.

    `settings` are named without the prefix, in lower case.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLA_")}
    if models.scripted:
        chosen = {"HOLA_MODEL": models.target}
    else:
        folder = Path(models.target).parents[1]
        chosen = {"HOLA_MODEL": models.name, "HOLA_MODELS_DIR": str(folder)}
    given = {f"HOLA_{name.upper()}": str(value) for name, value in settings.items()}
    # The service finds the packages where this process found them.
    path = os.pathsep.join(folder for folder in sys.path if folder)
    return {**kept, "PYTHONPATH": path, "HOLA_LOG_LEVEL": "error", **chosen, **given}


@asynccontextmanager
async def service(
    module: str, environ: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m module` with this environment; killed when the block is left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        env=environ,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def while_alive(process: asyncio.subprocess.Process, work: Coroutine[Any, Any, T]) -> T:
    """Result of `work`. Raises HolaError when the process ends first, TimeoutError when late."""
    working = asyncio.ensure_future(work)
    ended = asyncio.ensure_future(process.wait())
    try:
        async with asyncio.timeout(WORK_S):
            await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HolaError(f"a service ended with code {process.returncode}")
        return working.result()
    finally:
        for task in (working, ended):
            task.cancel()
        await asyncio.gather(working, ended, return_exceptions=True)


async def wait_for_port(process: asyncio.subprocess.Process, port: int) -> None:
    """Return when something accepts connections there. Raises HolaError when the process ends."""
    async with asyncio.timeout(START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                if process.returncode is not None:
                    raise HolaError(f"a service ended with code {process.returncode}") from None
                await asyncio.sleep(POLL_S)
            else:
                writer.close()
                return
