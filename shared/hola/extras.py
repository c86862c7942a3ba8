"""Optional dependencies: import one, or say which extra brings it."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from hola.errors import MissingExtra


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which the distribution's `extra` brings.

    Raises MissingExtra with the pip line when it is not installed. A module that is installed but
    broken raises its own error: hiding that behind a pip line would mislead.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise _missing(module, extra) from error


def check_installed(module: str, extra: str) -> None:
    """As `require`, but without importing: for what only a subprocess loads."""
    if not is_installed(module):
        raise _missing(module, extra)


def is_installed(module: str) -> bool:
    """Whether `module` could be imported; it is not."""
    return importlib.util.find_spec(module) is not None


def _missing(module: str, extra: str) -> MissingExtra:
    line = f"pip install 'hola-edge[{extra}]'"
    return MissingExtra(f"{module} is not installed; run: {line}", module=module, extra=extra)
