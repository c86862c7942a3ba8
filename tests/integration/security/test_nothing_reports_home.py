"""Libraries that report to their makers by default do not do so under HOLA."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LOAD = """
import sys
from pathlib import Path
from hola.engines.onnx import OnnxEngine
engine = OnnxEngine(Path(sys.argv[1]))
session = engine.open(8)
session.prefill([1, 2, 3])
session.close()
engine.close()
print("fine")
"""
# What makes onnxruntime silent by itself.
SILENCING = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME")


def test_a_loaded_model_leaves_nothing_in_the_home_directory(
    tmp_path: Path, repo_root: Path
) -> None:
    environment = {name: text for name, text in os.environ.items() if name not in SILENCING}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(repo_root / "shared")}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(repo_root / "models/demo/draft")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "fine\n", done.stderr
    assert not list(tmp_path.iterdir())
