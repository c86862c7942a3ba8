"""An error as one line for people, and where it helps, when to try again."""

from __future__ import annotations

import sys

from hola.errors import HolaError, Overloaded


def line_of(error: HolaError) -> str:
    """`error: what is wrong`, with the server's own waiting time if it named one."""
    line = f"error: {error.message}"
    wait_s = error.retry_after_s if isinstance(error, Overloaded) else None
    return line if wait_s is None else f"{line} (come back in {wait_s:.1f} s)"


def say_wait(error: Overloaded, wait_s: float) -> None:
    """Say on stderr that a refusal is waited out."""
    print(f"{error.message}: trying again in {wait_s:.1f} s", file=sys.stderr, flush=True)
