"""From HOLA_* settings to a document store."""

from __future__ import annotations

from hola.config import Settings
from hola.retrieval.data_dir import data_dir
from hola.retrieval.ports import DocumentStore
from hola.retrieval.sqlite_store import SqliteStore


def store_from(settings: Settings) -> DocumentStore:
    """The document store the settings name: files in HOLA_DATA_DIR's folder.

    Nothing is opened or reached before its first call.
    """
    return SqliteStore(data_dir(settings))
