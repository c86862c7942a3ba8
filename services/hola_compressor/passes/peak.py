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
    tokens = [1 + at % (engine.info.vocab_size - 1) for at in range(_TOKENS)]
    session = engine.open(_TOKENS + _STEPS)
    session.prefill(tokens)
    for token in tokens[:_STEPS]:
        session.forward([token])
    kib = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kib)


if __name__ == "__main__":
    _run(Path(sys.argv[1]))
