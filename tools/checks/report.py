"""A check prints one line for each thing it looked at and ends at the first that is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
# Nothing of the caller's Python or HOLA settings may leak into what is checked.
_OURS = ("HOLA_", "PYTHON", "VIRTUAL_ENV")


class CheckFailed(Exception):
    """Something is not as it has to be; the text says what."""


class Report:
    """Numbered lines on stdout, and the sum at the end."""

    def __init__(self, name: str) -> None:
        self._name, self._count, self._since = name, 0, time.monotonic()

    def step(self, text: str) -> None:
        """Say what is being done, before it is: some steps take minutes."""
        print(f"     {text} ...", flush=True)

    def ok(self, text: str) -> None:
        """One thing was checked and is right."""
        self._count += 1
        print(f"{self._count:3}. {text}", flush=True)

    def expect(self, holds: object, text: str) -> None:
        """As `ok`, if `holds`. Raises CheckFailed otherwise."""
        if not holds:
            raise CheckFailed(text)
        self.ok(text)

    def end(self) -> None:
        """The closing line."""
        seconds = time.monotonic() - self._since
        print(f"{self._name}: {self._count} passed, 0 failed, in {seconds:.0f} s", flush=True)


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout_s: float = 900,
) -> str:
    """What the command prints on stdout. Raises CheckFailed with all of its output if it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=clean_env() if env is None else dict(env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CheckFailed(f"{' '.join(words)}: {error}") from error
    if done.returncode:
        said = (done.stdout + done.stderr)[-6000:]
        raise CheckFailed(f"{' '.join(words)} ended with {done.returncode}:\n{said}")
    return done.stdout


def clean_env(**settings: str) -> dict[str, str]:
    """This environment without Python's and HOLA's variables, and with `settings`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return kept | settings


def cache_dir(name: str) -> Path:
    """A folder that outlives the check, for what is slow to fetch: base systems, tools."""
    root = os.environ.get("HOLA_CHECK_CACHE") or Path.home() / ".cache" / "hola-checks"
    folder = Path(root) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main(name: str, check: Callable[[Report], None]) -> None:
    """Run a check as a program; the exit code tells whether it passed."""
    report = Report(name)
    try:
        check(report)
    except CheckFailed as failed:
        print(f"{name} failed: {failed}", file=sys.stderr)
        raise SystemExit(1) from None
    report.end()
