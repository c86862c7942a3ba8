"""Optional dependencies: import one, or say which extra brings it."""

from __future__ import annotations

import importlib
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
        line = f"pip install 'hola-edge[{extra}]'"
        raise MissingExtra(
            f"{module} is not installed; run: {line}", module=module, extra=extra
        ) from error
