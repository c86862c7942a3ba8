"""What `hola compress` shows while a job runs, and what it says at the end."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from hola.compression.job import ArtifactInfo, JobState, JobStatus
from hola.compression.request import Submitted
from hola_cli.jsonform import dump

MIB = 2**20


class Screen(Protocol):
    """Shows one job; a context for the time it is followed."""

    def submitted(self, submitted: Submitted) -> None:
        """The job is queued."""
        ...

    def show(self, status: JobStatus) -> None:
        """The job has come so far."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class JsonScreen:
    """One object per line: {"event": "submitted"...}, then {"event": "status"...}."""

    def submitted(self, submitted: Submitted) -> None:
        """Print it."""
        dump({"event": "submitted", **_plain(submitted)})

    def show(self, status: JobStatus) -> None:
        """Print it."""
        dump({"event": "status", **_plain(status)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class TerminalScreen:
    """A bar with the pass, the share done and the expected time; lines where it is no terminal."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out)
        self._stage = ""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]}"),
        )
        is_live = self._console.is_terminal
        self._bar = Progress(*columns, console=self._console, disable=not is_live)
        self._task = self._bar.add_task("waiting for a worker", total=1.0, eta="")

    def submitted(self, submitted: Submitted) -> None:
        """Name the job and its prediction."""
        needs = ""
        if submitted.memory_bytes:
            needs = (
                f": about {submitted.memory_bytes / MIB:.0f} MiB of memory and "
                f"{submitted.disk_bytes / MIB:.0f} MiB of disk; the smallest artifact possible "
                f"has {submitted.smallest_bytes / MIB:.1f} MiB"
            )
        self._console.print(f"job {submitted.job_id}{needs}", highlight=False)

    def show(self, status: JobStatus) -> None:
        """Move the bar; elsewhere print each new pass once."""
        if self._bar.disable:
            if status.stage != self._stage and status.stage:
                print(f"{status.stage}: {status.message}", file=self._console.file, flush=True)
            self._stage = status.stage
            return
        waiting = status.state is JobState.QUEUED
        text = "waiting for a worker" if waiting else f"{status.stage}: {status.message}"
        eta = "" if status.eta_s is None else f"{duration(status.eta_s)} left"
        self._bar.update(
            self._task, completed=status.progress, description=escape(text[:60]), eta=eta
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def summary(artifact: ArtifactInfo, compressor: str | None = None) -> list[str]:
    """Lines about a finished artifact and how to see its report: where `compressor` keeps it."""
    there = [f"in the store of {compressor}; on a machine with that store:"] if compressor else []
    return [
        f"{artifact.model}/{artifact.tier}: {artifact.size_bytes / MIB:.1f} MiB with its"
        " tokenizer,"
        f" {artifact.quantization}, from {artifact.source}",
        f"artifact {artifact.digest}",
        *there,
        f"  hola models show {artifact.model} --report",
        f"  hola generate --model {artifact.model} 'your prompt'",
    ]


def duration(seconds: float) -> str:
    """About how long, for people: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _plain(value: Submitted | JobStatus) -> dict[str, object]:
    from hola_cli.jsonform import plain

    found: dict[str, object] = plain(value)
    return found
