"""`python -m hola_verifier`: serve until SIGTERM."""

from __future__ import annotations

import sys

from hola.rpc.process import run
from hola_verifier.app import build


def main() -> None:
    """Entry point of `hola-verifier`."""
    sys.exit(run("verifier", build, arguments=sys.argv[1:]))


if __name__ == "__main__":
    main()
