"""What a pass starts ends with the process that waits for it, when that one is killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's kernel")

PATIENCE_MS = 60_000
STAYS = """
import os, signal
alive = open(os.environ["ALIVE"], "w")
print(os.getpid(), file=alive, flush=True)
signal.pause()
"""
BUILDS = """
from pathlib import Path
from hola.models import checkpoint
checkpoint._BUILDER = "stays"
checkpoint._run_builder(Path("x"), Path("y"), "int8", Path("z"), print)
"""
LOOKS_AT_MEMORY = """
import sys
from pathlib import Path
from hola_compressor.passes.peak import peak_bytes
peak_bytes(Path(sys.argv[1]))
"""


def changed(descriptor: int) -> bool:
    """Whether the pipe's other end was closed, which the kernel does for whoever ends."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(PATIENCE_MS))


def test_the_builder_ends_with_the_pass_that_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "stays.py").write_text(STAYS)
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    environ = {**os.environ, "ALIVE": str(alive), "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", BUILDS]
    with subprocess.Popen(command, env=environ) as parent, alive.open("rb", buffering=0) as pipe:
        builder = int(pipe.readline())
        parent.kill()
        try:
            assert changed(pipe.fileno()), "the builder lives on"
            assert pipe.read() == b""
        finally:
            with suppress(ProcessLookupError):
                os.kill(builder, signal.SIGKILL)


def test_the_look_at_peak_memory_ends_with_the_pass_that_waits_for_it(tmp_path: Path) -> None:
    """Its first file is a pipe: it is there once it opens that, and reads for ever."""
    config = tmp_path / "genai_config.json"
    os.mkfifo(config)
    command = [sys.executable, "-c", LOOKS_AT_MEMORY, str(tmp_path)]
    with subprocess.Popen(command) as parent, config.open("wb", buffering=0) as pipe:
        parent.kill()
        assert changed(pipe.fileno()), "it lives on"


def test_a_process_whose_parent_is_gone_already_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "marks.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    parents = {os.getpid(): True, os.getppid(): False}  # the second is not whose child it is
    for parent, runs in parents.items():
        command = [sys.executable, "-m", "hola.lifeline", str(parent), "marks"]
        assert (subprocess.run(command, env=environ).returncode == 0) is runs
        assert (tmp_path / "mark").exists() is runs
        (tmp_path / "mark").unlink(missing_ok=True)
