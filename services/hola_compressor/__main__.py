"""`python -m hola_compressor`: serve until SIGTERM."""

from __future__ import annotations

import sys

from hola.rpc.process import run
from hola_compressor.app import build


def main() -> None:
    """Entry point of `hola-compressor`."""
    sys.exit(run("compressor", build, arguments=sys.argv[1:]))


if __name__ == "__main__":
    main()
