"""`hola config`: what is set, where it comes from, and whether every part of it can be used."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hola.config import Settings, settings_of, variables
from hola.errors import ConfigError, HolaError
from hola.security.redaction import clean_text
from hola.settings_sources import CONFIG, Given, gather
from hola.settings_table import Variable
from hola_cli.jsonform import dump
from hola_cli.options import JsonOption

MASKED = "***"
DEFAULT = "default"

app = typer.Typer(no_args_is_help=True, help="Check and show settings.")

FileArgument = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help="Settings as TOML, instead of HOLA_CONFIG's."),
]


@app.command()
def check(file: FileArgument = None, json: JsonOption = False) -> None:
    """Exit with 0 when a service could start with these settings, with 2 when not.

    Reads the environment and the file as a service does, and what they name: certificates, keys,
    limits of tenants, addresses. Connects to nothing.

    Examples:

    `hola config check /etc/hola/hola.toml`

    `HOLA_CONFIG=/etc/hola/hola.toml hola config check && kill -HUP $(pidof hola-router)`
    """
    given = _given(file)
    settings = settings_of(given)
    wrong = list(problems(settings))
    if json:
        dump({"ok": not wrong, "set": len(given), "problems": wrong})
    if wrong:
        for line in wrong[1:] if not json else []:
            print(f"error: {line}", file=sys.stderr)
        raise ConfigError(wrong[0])
    if not json:
        print(f"{len(given)} settings, all usable")


@app.command()
def show(
    file: FileArgument = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also what is as by default.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print the settings and where each comes from: a flag, the environment, a file, or nowhere.

    Secrets are masked, passwords in URLs left out.

    Examples:

    `hola config show`

    `HOLA_CONFIG=hola.toml hola config show --all --json`
    """
    given = _given(file)
    rows = [row for row in shown(given, settings_of(given)) if everything or row["from"] != DEFAULT]
    if json:
        dump(rows)
        return
    table = Table("setting", "value", "from", "reload")
    for row in rows:
        table.add_row(*(escape(row[key]) for key in ("setting", "value", "from", "reload")))
    Console(highlight=False).print(table)
    if not rows:
        print("nothing is set: every setting is as by default (--all shows them)")


def shown(given: Mapping[str, Given], settings: Settings) -> Iterator[dict[str, str]]:
    """A row per setting, safe to print."""
    for row in variables():
        yield {
            "setting": row.name,
            "value": _masked(row, str(getattr(settings, row.field))),
            "from": given[row.name].origin if row.name in given else DEFAULT,
            "reload": row.reload,
        }


def problems(settings: Settings) -> Iterator[str]:
    """What is wrong with what the settings name, one line each."""
    for look in (_server, _bus, _clients, _metrics, _tenants, _traces):
        try:
            look(settings)
        except HolaError as error:
            yield error.message


def _given(file: str | None) -> dict[str, Given]:
    environ = dict(os.environ)
    if file is not None:
        environ[CONFIG] = file
    return gather(variables(), environ)


def _masked(row: Variable, value: str) -> str:
    return MASKED if row.is_secret and value else clean_text(value)


def _server(settings: Settings) -> None:
    from hola.rpc.server import listen_address
    from hola.security.tls import serves_tls, watched_pems

    if settings.listen:
        listen_address(settings.listen, settings)
    if serves_tls(settings):
        watched_pems(settings)


def _bus(settings: Settings) -> None:
    from hola.bus.address import parse_address
    from hola.bus.from_settings import security_of

    if settings.bus != "memory:":
        security_of(settings).check(parse_address(settings.bus))


def _clients(settings: Settings) -> None:
    from hola.security.authenticate import Authenticator

    Authenticator(settings, takes_tokens=bool(settings.api_keys or settings.jwks))


def _metrics(settings: Settings) -> None:
    from hola.metrics import metrics_address

    if settings.metrics_listen:
        metrics_address(settings.metrics_listen)


def _tenants(settings: Settings) -> None:
    from hola_router.tenants import tenants_from

    tenants_from(settings)


def _traces(settings: Settings) -> None:
    from hola.extras import check_installed

    if settings.trace:
        check_installed("opentelemetry.sdk", "otel")
        from hola.tracing_export import check_spec

        check_spec(settings.trace)
