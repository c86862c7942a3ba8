"""`python -m hola_compressor.passes.peak FOLDER`: the most memory that running a model takes.

In a process of its own, since nothing tells one engine's pages from another's.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from hola.engines.onnx import OnnxEngine
from hola.errors import EngineFailure
from hola.lifeline import tied_command

_TOKENS, _STEPS = 64, 16


def peak_bytes(folder: Path) -> int:
    """Peak resident memory of loading a model, prefilling 64 tokens and decoding 16, bytes.

    Runtime and interpreter are in it. Raises EngineFailure when the process fails.
    """
    command = tied_command("hola_compressor.passes.peak", str(folder))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip().isdigit():
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise EngineFailure(f"{folder.name} cannot be run in a process of its own: {lines[-1]}")
    return int(done.stdout)


def _run(folder: Path) -> None:
    engine = OnnxEngine(folder)
    count = min(_TOKENS, engine.info.context_length - _STEPS)
    tokens = [1 + at % (engine.info.vocab_size - 1) for at in range(count)]
    session = engine.open(count + _STEPS)
    session.prefill(tokens)
    for token in tokens[:_STEPS]:
        session.forward([token])
    print(_highest())


def _highest() -> int:
    """The most that this process had resident, bytes.

    Not getrusage's on Linux: that begins with what the process had that started this one.
    """
    if sys.platform != "linux":
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    _run(Path(sys.argv[1]))
