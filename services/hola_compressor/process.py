"""The parent's side of a child process that runs passes: its answers, its lease, its end."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hola.compression.plan import Plan
from hola.engines.memory import available_bytes
from hola.errors import HolaError, MemoryBudgetExceeded, from_reason
from hola.telemetry import get_logger
from hola_compressor.passes import Estimate, Progress

log = get_logger(__name__)

CHILD = (sys.executable, "-m", "hola_compressor.child")
LOG_FILE = "passes.log"
_BEATS_PER_LEASE = 4
_GOODBYE_S = 5.0
_KILLED = -9
_MAX_LINE_BYTES = 2**20
_MAX_LOG_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class PassProcess:
    """Runs passes in children of `command`, each with a lease of `lease_s` seconds."""

    lease_s: float
    command: Sequence[str] = CHILD

    async def estimate(self, plan: Plan, source: Path) -> Estimate:
        """See hola_compressor.passes.estimate; nothing of it runs in this process."""
        request = {"do": "estimate", "plan": plan.document(), "source": str(source)}
        answer = await self._ask(request, lambda _: None, log_to=None)
        return Estimate(**answer["estimate"])

    async def run(
        self, plan: Plan, source: Path, work: Path, progress: Callable[[Progress], None]
    ) -> Path:
        """See hola_compressor.passes.run; the artifact's directory. Cancelling it ends the child.

        Raises what the passes raise, MemoryBudgetExceeded when the kernel killed them.
        """
        request = {"do": "run", "plan": plan.document(), "source": str(source), "work": str(work)}
        return Path((await self._ask(request, progress, log_to=work / LOG_FILE))["built"])

    async def _ask(
        self, request: dict[str, Any], progress: Callable[[Progress], None], log_to: Path | None
    ) -> dict[str, Any]:
        errors = _log_file(log_to)
        try:
            child = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors or DEVNULL,
                limit=_MAX_LINE_BYTES,
            )
        finally:
            if errors is not None:
                errors.close()
        beating = asyncio.create_task(self._beat(child, {**request, "lease_s": self.lease_s}))
        try:
            answer = await _read(child, progress)
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            await _end(child)
        if answer is None:
            raise _died(child, log_to)
        if (error := answer.get("error")) is not None:
            raise from_reason(error["reason"], error["message"], error["details"])
        return answer

    async def _beat(self, child: Process, request: dict[str, Any]) -> None:
        assert child.stdin is not None
        with suppress(ConnectionError):  # it has ended: `_read` says how
            child.stdin.write(json.dumps(request).encode() + b"\n")
            while True:
                await child.stdin.drain()
                await asyncio.sleep(self.lease_s / _BEATS_PER_LEASE)
                child.stdin.write(b".")


async def _read(child: Process, progress: Callable[[Progress], None]) -> dict[str, Any] | None:
    """The last answer; None when the child ended without one."""
    assert child.stdout is not None
    while line := await child.stdout.readline():
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            continue  # cut off by its end
        if "progress" not in answer:
            return answer
        progress(Progress(**answer["progress"]))
    return None


async def _end(child: Process) -> None:
    """Close the lease, then insist. It leaves whole files behind, whenever it ends."""
    if child.stdin is not None:
        child.stdin.close()
    waiting = asyncio.create_task(child.wait())
    try:
        await asyncio.wait({waiting}, timeout=_GOODBYE_S)
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
        await waiting


def _died(child: Process, log_to: Path | None) -> HolaError:
    code, free = child.returncode, available_bytes() or 0
    if code == _KILLED:
        return MemoryBudgetExceeded(
            "the passes were killed, as the kernel does when memory runs out; "
            f"{free} bytes are free now",
            available_bytes=free,
        )
    where = f"; see {log_to.name} in the job's directory" if log_to else ""
    return HolaError(f"the passes ended with code {code} and without an answer{where}")


def _log_file(path: Path | None) -> Any:
    if path is None:
        return None
    with suppress(OSError):
        if path.stat().st_size > _MAX_LOG_BYTES:
            path.unlink()
    return path.open("ab")
