"""From HOLA_* settings to a document store: the one place that picks the engine."""

from __future__ import annotations

from hola.config import Settings
from hola.errors import ConfigError
from hola.extras import require
from hola.retrieval.data_dir import data_dir
from hola.retrieval.ports import DocumentStore
from hola.retrieval.sqlite_store import SqliteStore

SQLITE = "sqlite"
FORM = "sqlite, weaviate://HOST[:PORT][/PREFIX][?grpc=[HOST:]PORT] or weaviates://..."


def store_from(settings: Settings) -> DocumentStore:
    """The store HOLA_STORE names; nothing is opened or reached before its first call.

    Raises ConfigError for an address of no store, and for one on another machine in plaintext
    without HOLA_INSECURE; MissingExtra without the `[weaviate]` extra.
    """
    if settings.store == SQLITE:
        return SqliteStore(data_dir(settings))
    if not settings.store.startswith(("weaviate://", "weaviates://")):
        raise ConfigError(
            f"HOLA_STORE is no store's address: expected {FORM}",
            variable="HOLA_STORE",
            expected=FORM,
        )
    return _weaviate(settings)


def _weaviate(settings: Settings) -> DocumentStore:
    require("weaviate", "weaviate")  # it takes seconds to import, and most have none
    from hola.retrieval.weaviate_connect import parse_weaviate
    from hola.retrieval.weaviate_store import WeaviateStore

    address = parse_weaviate(settings.store)
    if not (address.secure or address.local or settings.insecure):
        raise ConfigError(
            f"documents would go to {address} in plaintext: use weaviates://, or set"
            " HOLA_INSECURE=1 if the network between is yours alone",
            variable="HOLA_STORE",
        )
    return WeaviateStore(
        address, key_file=settings.store_key_file, timeout_s=settings.rpc_timeout_s
    )
