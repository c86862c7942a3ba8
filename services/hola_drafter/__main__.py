"""Runs a drafter: `python -m hola_drafter` or `hola-drafter`."""

import sys

from hola.rpc.process import run
from hola_drafter.app import build


def main() -> None:
    """Serve until SIGTERM; the exit code says how it went."""
    sys.exit(run("drafter", build, arguments=sys.argv[1:]))


if __name__ == "__main__":
    main()
