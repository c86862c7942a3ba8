"""Writes docs/CLI.md from the commands' own help: `python -m hola_cli.reference > docs/CLI.md`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer.main

from hola_cli.main import EPILOG, app

HEADER = """# The `hola` command

<!-- Made by `python -m hola_cli.reference > docs/CLI.md`; a test compares. -->
"""
SETTINGS = (
    "## Settings",
    "",
    "Every command and service has the same ones: [CONFIG.md](CONFIG.md).",
)
HIDDEN = {"help", "install_completion", "show_completion"}


def reference() -> str:
    """The whole page as Markdown."""
    root: Any = typer.main.get_command(app)
    parts = [HEADER, paragraph(root.help), "", EPILOG, "", *_contents(root), ""]
    for path, command in _commands(root, "hola"):
        parts += [f"## `{path}`", "", paragraph(command.help), "", *_parameters(path, command)]
    return "\n".join([*parts, *SETTINGS]).rstrip() + "\n"


def paragraph(text: str | None) -> str:
    """A docstring as Markdown."""
    return inspect.cleandoc(text or "")


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, depth first, in the order of the help."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _contents(root: Any) -> Iterator[str]:
    yield "| command | what it does |"
    yield "|---|---|"
    for path, command in _commands(root, "hola"):
        anchor = path.replace(" ", "-")
        yield f"| [`{path}`](#{anchor}) | {paragraph(command.help).splitlines()[0]} |"


def _parameters(path: str, command: Any) -> Iterator[str]:
    shown = [param for param in command.params if param.name not in HIDDEN]
    arguments = [param for param in shown if param.param_type_name == "argument"]
    options = [param for param in shown if param.param_type_name == "option"]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *map(_name, arguments)])
    yield f"Usage: `{usage}`"
    yield ""
    if shown:
        yield "| | default | |"
        yield "|---|---|---|"
        for param in (*arguments, *options):
            yield f"| `{_cell(_name(param))}` | {_default(param)} | {_cell(param.help or '')} |"
        yield ""


def _name(param: Any) -> str:
    if param.param_type_name == "argument":
        return str(param.metavar or param.name.upper())
    names = ", ".join(sorted(param.opts, key=len))
    return names if param.is_flag else f"{names} {param.metavar}"


def _default(param: Any) -> str:
    if param.required:
        return "required"
    value = getattr(param.default, "value", param.default)
    return "" if value is None or value is False or value == "" else f"`{value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
