"""A service as a real process: started, watched through its log, signalled, and always ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

SCRIPTED = "scripted:seed=1,eos_bias=-1e9"


class ServiceProcess:
    """A running service; its log lines are JSON on stderr."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.log: list[dict[str, Any]] = []

    async def event(self, name: str, timeout_s: float = 30) -> dict[str, Any]:
        """The next log line with this event."""
        assert self._process.stderr is not None
        async with asyncio.timeout(timeout_s):
            while line := await self._process.stderr.readline():
                entry = self._parse(line)
                if entry.get("event") == name:
                    return entry
        raise AssertionError(f"the process ended without {name!r}: {self.log}")

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    async def exit_code(self, timeout_s: float = 30) -> int:
        """Wait for the end; the rest of the log is read."""
        assert self._process.stderr is not None
        async with asyncio.timeout(timeout_s):
            for line in (await self._process.stderr.read()).splitlines(keepends=True):
                self._parse(line)
            return await self._process.wait()

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            entry = {"event": "", "text": line.decode()}
        self.log.append(entry)
        return entry


@asynccontextmanager
async def running_service(module: str, **settings: str) -> AsyncIterator[ServiceProcess]:
    """Run `python -m module` with these HOLA_* settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLA_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        env={**kept, "HOLA_LOG_FORMAT": "json", **settings},
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield ServiceProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
