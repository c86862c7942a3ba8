"""Taking a model's files over: small ones are copied, large ones linked where that works."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_LINK_FROM_BYTES = 16 * 2**20


def take_file(file: Path, destination: Path) -> None:
    """Hard-link or copy one file; a link to it is followed. Raises OSError."""
    file = file.resolve()
    if file.stat().st_size >= _LINK_FROM_BYTES:
        try:
            os.link(file, destination)
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    shutil.copyfile(file, destination)
