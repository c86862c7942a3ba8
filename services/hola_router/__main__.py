"""Runs a router: `python -m hola_router` or `hola-router`."""

import sys

from hola.rpc.process import run
from hola_router.app import build


def main() -> None:
    """Serve until SIGTERM; the exit code says how it went."""
    sys.exit(run("router", build, arguments=sys.argv[1:]))


if __name__ == "__main__":
    main()
