"""`hola keys`: API keys for the clients of a router; only their hashes are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from hola.errors import ConfigError
from hola.security.api_keys import new_key
from hola_cli.jsonform import dump
from hola_cli.options import JsonOption

app = typer.Typer(
    help="Make API keys for clients.", no_args_is_help=True, rich_markup_mode="markdown"
)


@app.callback()
def keys() -> None:
    """Make API keys for clients."""


@app.command()
def create(
    tenant: Annotated[
        str,
        typer.Option("--tenant", "-t", metavar="TENANT", help="Whose requests the key opens."),
    ],
    append: Annotated[
        Path | None,
        typer.Option(
            "--append",
            "-a",
            metavar="FILE",
            help="Add the line to this file (HOLA_API_KEYS); servers see it within a second.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a key. It is printed this once; the server's line holds its hash only.

    To revoke a key, delete its line: the id after `hola_` names it.

    Examples:

    `hola keys create --tenant acme --append /etc/hola/keys`

    `HOLA_TOKEN=$(hola keys create -t acme -a keys) hola generate --router grpcs://edge:7070 "Hi"`
    """
    key = new_key(tenant)
    if append is not None:
        add_line(append, key.line)
    if json:
        where = "" if append is None else str(append)
        dump({"tenant": tenant, "key": key.text, "line": key.line, "file": where})
        return
    print(key.text)
    if append is None:
        typer.echo(f"line for HOLA_API_KEYS: {key.line}", err=True)


def add_line(path: Path, line: str) -> None:
    """Append to a file that only its owner may read. Raises ConfigError when that fails."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
            complete = not size or file.read(1) == b"\n"
            file.write(f"{'' if complete else chr(10)}{line}\n".encode("ascii"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
