"""A chaos run in this process's own network namespace: options as JSON in, a report as JSON out."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from hola.errors import HolaError
from hola_bench.chaos import Options, run_here


def main() -> int:
    """The exit code."""
    try:
        found = run_here(Options(**json.loads(sys.argv[1])), namespaces=True)
    except HolaError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
