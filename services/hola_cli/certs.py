"""`hola certs`: an authority for development and small fleets, and certificates signed by it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hola.errors import ConfigError
from hola.extras import check_installed
from hola_cli.jsonform import dump
from hola_cli.options import JsonOption

if TYPE_CHECKING:
    from hola.security.authority import Identity

AUTHORITY = "ca"
AUTHORITY_DAYS = 3650.0
DAYS = 90.0
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

app = typer.Typer(
    help="Make certificates for services and devices.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

FolderOption = Annotated[
    Path, typer.Option("--dir", "-d", metavar="DIR", help="Folder of the authority's files.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]


@app.command()
def init(
    folder: FolderOption = Path("certs"),
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What the authority is called.")
    ] = "hola-dev-ca",
    days: Annotated[
        float, typer.Option("--days", metavar="DAYS", help="How long it is valid.")
    ] = AUTHORITY_DAYS,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Make an authority: `ca.crt` for everybody, `ca.key` for nobody but you.

    Examples:

    `hola certs init`

    `hola certs init --dir /etc/hola/certs --days 365`
    """
    _need_cryptography()
    from hola.security.authority import new_authority

    _write(folder, AUTHORITY, new_authority(name, days), force)
    _report(folder, AUTHORITY, {"HOLA_TLS_CA": _path(folder, AUTHORITY, "crt")}, json)


@app.command()
def issue(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Service or device, e.g. verifier.")],
    hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="HOST",
            help="Name or address it answers at, also *.name; repeatable. NAME and this machine's"
            " loopback are always there.",
        ),
    ] = None,
    tenant: Annotated[
        str,
        typer.Option(
            "--tenant",
            metavar="TENANT",
            help="For a device that is not yours alone: it acts for this tenant only, and is no"
            " server.",
        ),
    ] = "",
    folder: FolderOption = Path("certs"),
    days: Annotated[
        float, typer.Option("--days", metavar="DAYS", help="How long it is valid.")
    ] = DAYS,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Sign a certificate: `NAME.crt` and `NAME.key`, which services read again when replaced.

    Without --tenant it makes its owner one of your own services, which act for every tenant.

    Examples:

    `hola certs issue verifier --host verifier.hola.svc --host 10.0.0.7`

    `hola certs issue verifier --force`

    `hola certs issue camera-12 --tenant acme --days 30`
    """
    _need_cryptography()
    from hola.security import authority

    signer = authority.Identity(
        certificate=_read(folder / f"{AUTHORITY}.crt"), key=_read(folder / f"{AUTHORITY}.key")
    )
    if name == AUTHORITY:
        raise ConfigError(f"{AUTHORITY} is the authority's own name", value=name)
    names = (name, *(() if tenant else LOCAL_HOSTS), *(hosts or ()))
    _write(folder, name, authority.issue(signer, name, names, days, tenant=tenant), force)
    settings = {
        "HOLA_TLS_CERT": _path(folder, name, "crt"),
        "HOLA_TLS_KEY": _path(folder, name, "key"),
        "HOLA_TLS_CA": _path(folder, AUTHORITY, "crt"),
    }
    _report(folder, name, settings, json)


def _need_cryptography() -> None:
    check_installed("cryptography", "auth")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}; `hola certs init` makes an authority"
        ) from None


def _write(folder: Path, name: str, identity: Identity, force: bool) -> None:
    """Write key and certificate, each at once; the key is for its owner's eyes only.

    Raises ConfigError when one of them is there and not to be replaced, or cannot be written.
    """
    files = {f"{name}.key": (identity.key, 0o600), f"{name}.crt": (identity.certificate, 0o644)}
    for file in files:
        if (folder / file).exists() and not force:
            raise ConfigError(f"{folder / file} is there already; --force replaces it")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, (content, mode) in files.items():
            _replace(folder / file, content, mode)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from None


def _replace(path: Path, content: bytes, mode: int) -> None:
    # Made with mode 0600, and complete before it has its name.
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(fresh, mode)
        os.replace(fresh, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(fresh)
        raise


def _path(folder: Path, name: str, kind: str) -> str:
    return str((folder / f"{name}.{kind}").resolve())


def _report(folder: Path, name: str, settings: Mapping[str, str], json: bool) -> None:
    from hola.security.authority import Identity

    identity = Identity(certificate=_read(folder / f"{name}.crt"), key=b"")
    expires = identity.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
    if json:
        files = {"certificate": _path(folder, name, "crt"), "key": _path(folder, name, "key")}
        dump({"name": name, **files, "expires": expires, "settings": settings})
        return
    print(f"{name}: valid until {expires}")
    for variable, value in settings.items():
        print(f"{variable}={value}")
