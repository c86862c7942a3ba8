"""Processes that end when whoever started them ends, however that came.

`python -m hola.lifeline PARENT MODULE ARGUMENTS` runs a module as such a process: asking the kernel
from within needs no code between fork and exec, which is not safe where there are threads.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """On Linux: have the kernel kill this process when the thread that started it ends."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def tied_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this Python in a process that ends with this one."""
    return [sys.executable, "-m", "hola.lifeline", str(os.getpid()), module, *arguments]


def main() -> None:
    """Run the module that the command line names, unless its parent is gone already."""
    _, parent, module, *arguments = sys.argv
    die_with_parent()
    if os.getppid() != int(parent):  # it ended before the kernel was asked
        sys.exit(1)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
