"""Where collections live on this machine, and the store on it."""

from __future__ import annotations

import os
from pathlib import Path

from hola.config import Settings
from hola.retrieval.sqlite_store import SqliteStore


def data_dir(settings: Settings) -> Path:
    """The folder HOLA_DATA_DIR names, or hola/data in the user's data folder (XDG)."""
    if settings.data_dir:
        return Path(settings.data_dir).expanduser()
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "hola" / "data"


def open_store(settings: Settings) -> SqliteStore:
    """The document store of this machine; the folder is made with the first collection."""
    return SqliteStore(data_dir(settings))
