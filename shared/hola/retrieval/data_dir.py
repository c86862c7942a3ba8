"""Where collections live on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from hola.config import Settings


def data_dir(settings: Settings) -> Path:
    """The folder HOLA_DATA_DIR names, or hola/data in the user's data folder (XDG)."""
    if settings.data_dir:
        return Path(settings.data_dir).expanduser()
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "hola" / "data"
