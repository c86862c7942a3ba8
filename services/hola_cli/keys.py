"""`hola keys`: API keys for a router's clients, and the users of a Redis; only hashes are kept."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from hola.bus.users import users_file
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


@app.command()
def redis(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to put them; made if it is not there.")
    ],
    json: JsonOption = False,
) -> None:
    """Make the users of HOLA's Redis: an ACL file with hashes, and the passwords that go with it.

    `users.acl` is for Redis (`aclfile`), `password` for HOLA_BUS_PASSWORD_FILE, `keda-password` for
    an autoscaler. Only the folder's owner can enter it; the files can be read by the users of
    containers that they are mounted into. Nothing is overwritten.

    Examples:

    `hola keys redis secrets`

    `HOLA_BUS=redis://hola@localhost/0 HOLA_BUS_PASSWORD_FILE=secrets/password hola doctor`
    """
    password, scaler = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    texts = {
        "users.acl": users_file(password, scaler),
        "password": password,
        "keda-password": scaler,
    }
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = [name for name in texts if (folder / name).exists()]
        if taken:
            raise ConfigError(f"{folder} has {', '.join(taken)} already; delete to make new ones")
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="ascii")
            (folder / name).chmod(0o644)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from None
    if json:
        dump({"folder": str(folder), "files": list(texts)})
    else:
        print(f"made {', '.join(texts)} in {folder}")


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
