"""A router's collections for the retrieval commands: `--router`, and what it excludes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from hola.config import load_settings
from hola.errors import InvalidRequest
from hola.types import DEFAULT_TENANT
from hola_cli.knowledge import StoreOptions
from hola_cli.logs import quiet
from hola_cli.options import WHERE

if TYPE_CHECKING:
    from hola.rpc.retrieval_client import RetrievalClient

# HOLA_ROUTER is not looked at: where documents go must be said.
LibraryOption = Annotated[
    str | None,
    typer.Option(
        "--router",
        "-r",
        metavar="ADDRESS",
        help="A router's collections, e.g. `localhost:7070`; whose is its credential's "
        "(HOLA_TOKEN_FILE). Default: those on this machine.",
        rich_help_panel=WHERE,
    ),
]
# Where collections lie on this machine; a router knows for itself.
_LOCAL = ("store", "data_dir", "embedder", "models_dir")


def check_remote(where: StoreOptions) -> None:
    """Raises InvalidRequest for an option that says nothing to a router."""
    given = [name for name in _LOCAL if getattr(where, name, None) is not None]
    if where.tenant != DEFAULT_TENANT:
        given.append("tenant")
    if given:
        option = "--" + given[0].replace("_", "-")
        raise InvalidRequest(f"{option} and --router exclude each other", field=given[0])


def needed(router: str | None) -> str:
    """The address. Raises InvalidRequest without one: there are jobs at routers only."""
    if not router:
        raise InvalidRequest("ingest jobs run at a router: use --router ADDRESS", field="router")
    return router


@asynccontextmanager
async def library_at(address: str) -> AsyncIterator[RetrievalClient]:
    """A client for the time of the block. Raises ConfigError on a malformed address."""
    from hola.rpc.retrieval_client import RetrievalClient

    settings = load_settings(os.environ)
    quiet(settings)
    client = RetrievalClient(address, settings)
    try:
        yield client
    finally:
        await client.close()
