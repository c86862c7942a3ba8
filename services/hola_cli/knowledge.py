"""What the retrieval commands share: options, settings, and an opened store with its embedder."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from hola.config import Settings, load_settings
from hola.errors import InvalidRequest
from hola.retrieval.embedder import OnnxEmbedder, open_embedder
from hola.retrieval.ports import DocumentStore
from hola.retrieval.store_from import SQLITE, store_from
from hola.retrieval.types import DEFAULT_COLLECTION
from hola.types import DEFAULT_TENANT
from hola_cli.options import WHERE

EmbedderOption = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        metavar="NAME",
        help="Text encoder (see `hola embedder list`); `none`: BM25 alone. Default: HOLA_EMBEDDER.",
        rich_help_panel=WHERE,
    ),
]
CollectionOption = Annotated[
    str, typer.Option("--collection", "-c", metavar="NAME", help="The collection.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlace:
    """A store as the command line says it; None: as the environment says."""

    store: str | None = None
    data_dir: str | None = None
    key_file: str | None = None


AS_SET = StorePlace()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """Whose collections are meant, and where they are."""

    tenant: Annotated[
        str,
        typer.Option("--tenant", metavar="NAME", help="Whose collections.", rich_help_panel=WHERE),
    ] = DEFAULT_TENANT
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            help="`sqlite` or `weaviate://host:port`. Default: HOLA_STORE.",
            rich_help_panel=WHERE,
        ),
    ] = None
    data_dir: Annotated[
        str | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Folder of collections (then --store is sqlite). Default: HOLA_DATA_DIR.",
            rich_help_panel=WHERE,
        ),
    ] = None

    def place(self) -> StorePlace:
        """Where the collections are."""
        return StorePlace(store=self.store, data_dir=self.data_dir)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeOptions(StoreOptions):
    """Which collection is meant, and the encoder of its texts."""

    collection: CollectionOption = DEFAULT_COLLECTION
    embedder: EmbedderOption = None
    models_dir: Annotated[
        str | None,
        typer.Option(
            "--models-dir",
            metavar="DIR",
            help="Folder of model families and embedders. Default: HOLA_MODELS_DIR.",
            rich_help_panel=WHERE,
        ),
    ] = None

    def settings(self) -> Settings:
        """HOLA_* under these options. Raises ConfigError."""
        return retrieval_settings(self.place(), embedder=self.embedder, models_dir=self.models_dir)


def retrieval_settings(
    place: StorePlace = AS_SET, *, embedder: str | None = None, models_dir: str | None = None
) -> Settings:
    """HOLA_* of the environment under what the command line says.

    Raises ConfigError, InvalidRequest for a folder of a store that has none.
    """
    store = place.store
    if place.data_dir is not None:
        if store not in (None, SQLITE):
            raise InvalidRequest(f"a data folder is sqlite's, not {store}'s", field="data_dir")
        store = SQLITE
    given = {
        "EMBEDDER": embedder,
        "MODELS_DIR": models_dir,
        "STORE": store,
        "STORE_KEY_FILE": place.key_file,
        "DATA_DIR": place.data_dir,
    }
    said = {f"HOLA_{name}": value for name, value in given.items() if value is not None}
    return load_settings({**os.environ, **said})


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[DocumentStore, OnnxEmbedder | None]]:
    """This machine's store and embedder for the time of the block.

    Raises ArtifactInvalid, ArtifactCorrupt, MissingExtra for an embedder that cannot be used.
    """
    embedder = open_embedder(settings)
    try:
        store = store_from(settings)
        try:
            yield store, embedder
        finally:
            await store.close()
    finally:
        if embedder is not None:
            await embedder.close()
