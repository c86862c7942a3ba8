"""Options and settings that the retrieval commands share."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from hola.config import Settings, load_settings
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


def retrieval_settings(
    *, embedder: str | None = None, models_dir: str | None = None, data_dir: str | None = None
) -> Settings:
    """HOLA_* of the environment under what the command line says. Raises ConfigError."""
    given = {"EMBEDDER": embedder, "MODELS_DIR": models_dir, "DATA_DIR": data_dir}
    said = {f"HOLA_{name}": value for name, value in given.items() if value is not None}
    return load_settings({**os.environ, **said})
