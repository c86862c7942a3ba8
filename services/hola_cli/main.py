"""The `hola` command: one application whose errors are one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hola import __version__
from hola.errors import HolaError
from hola_cli import (
    ask,
    bench,
    bundle,
    certs,
    chat,
    collections,
    compress,
    config,
    dead_letters,
    doctor,
    embedder,
    evaluate,
    gate,
    generate,
    health,
    ingest,
    keys,
    models,
    requests,
    search,
    serve,
    top,
)
from hola_cli.trouble import line_of

EPILOG = (
    "Errors are one line on stderr. Exit codes: 0 done, 1 failed, 2 bad input or setting, "
    "3 unknown model or request, 4 unusable model or missing extra, 5 does not fit or overloaded, "
    "6 a server cannot be reached, 130 cancelled. HOLA_LOG_LEVEL=debug shows tracebacks."
)


class HolaGroup(TyperGroup):
    """Turns every error of a command into one line on stderr and the error's exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises typer.Exit with the code of the HolaError it ended with."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise
        except Exception as raised:
            error = root_cause(raised)
            report(error)
            raise typer.Exit(error.exit_code if isinstance(error, HolaError) else 1) from raised


def root_cause(error: BaseException) -> BaseException:
    """The one error inside nested task groups; the group itself when there are several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def report(error: BaseException) -> None:
    """Say on stderr what went wrong; with HOLA_LOG_LEVEL=debug also where."""
    if os.environ.get("HOLA_LOG_LEVEL", "").lower() == "debug":
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, HolaError):
        line = line_of(error)
    else:
        kind = type(error).__name__
        line = f"error: {kind}: {error} (a fault of HOLA's; HOLA_LOG_LEVEL=debug says where)"
    print(line, file=sys.stderr)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"hola {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="hola",
    cls=HolaGroup,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def hola(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Exact hierarchical speculative decoding: small drafts guess, the target decides."""


app.command("generate")(generate.command)
app.command("ask")(ask.command)
app.command("chat")(chat.command)
app.command("node")(serve.command)
app.command("resume")(requests.resume)
app.command("cancel")(requests.cancel)
app.add_typer(dead_letters.app, name="dead-letters")
models.app.command("evaluate")(evaluate.command)
app.add_typer(models.app, name="models")
app.command("compress")(compress.command)
app.add_typer(embedder.app, name="embedder")
app.command("ingest")(ingest.command)
app.command("search")(search.command)
app.add_typer(gate.app, name="gate")
app.add_typer(collections.app, name="collections")
app.add_typer(config.app, name="config")
app.command("top")(top.command)
app.command("doctor")(doctor.command)
app.command("health")(health.command)
app.command("bundle")(bundle.command)
app.add_typer(certs.app, name="certs")
app.add_typer(keys.app, name="keys")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="hola")
