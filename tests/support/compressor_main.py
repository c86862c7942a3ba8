"""`python -m tests.support.compressor_main`: a compressor whose passes are stand-ins."""

from __future__ import annotations

import sys

from hola.rpc.process import run
from hola_compressor.app import build

CHILD = (sys.executable, "-m", "tests.support.passes_child")

if __name__ == "__main__":
    sys.exit(run("compressor", lambda settings, metrics: build(settings, metrics, child=CHILD)))
