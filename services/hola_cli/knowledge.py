"""What the retrieval commands share: options, settings, and an opened store with its embedder."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from hola.config import Settings, load_settings
from hola.retrieval.embedder import OnnxEmbedder, open_embedder
from hola.retrieval.ports import DocumentStore
from hola.retrieval.store_from import store_from
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
class StoreOptions:
    """Whose collections are meant, and where they are."""

    tenant: Annotated[
        str,
        typer.Option("--tenant", metavar="NAME", help="Whose collections.", rich_help_panel=WHERE),
    ] = DEFAULT_TENANT
    data_dir: Annotated[
        str | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Folder of collections. Default: HOLA_DATA_DIR.",
            rich_help_panel=WHERE,
        ),
    ] = None


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
        return retrieval_settings(
            embedder=self.embedder, models_dir=self.models_dir, data_dir=self.data_dir
        )


def retrieval_settings(
    *, embedder: str | None = None, models_dir: str | None = None, data_dir: str | None = None
) -> Settings:
    """HOLA_* of the environment under what the command line says. Raises ConfigError."""
    given = {"EMBEDDER": embedder, "MODELS_DIR": models_dir, "DATA_DIR": data_dir}
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
