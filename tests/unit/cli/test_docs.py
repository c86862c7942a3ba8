"""docs/CLI.md is what the commands' help says, and every command's help is complete."""

from __future__ import annotations

from typing import Any

import pytest
import typer.main

from hola_cli.main import app
from hola_cli.reference import reference


def commands(group: Any = None, path: str = "hola") -> list[tuple[str, Any]]:
    group = group or typer.main.get_command(app)
    found = []
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        found += commands(command, f"{path} {name}") if inner else [(f"{path} {name}", command)]
    return found


def test_the_page_is_what_the_help_says(repo_root):
    page = (repo_root / "docs/CLI.md").read_text("utf-8")
    assert page == reference(), "run: python -m hola_cli.reference > docs/CLI.md"


@pytest.mark.parametrize(("path", "command"), commands(), ids=lambda item: str(item)[:40])
def test_every_command_shows_how_it_is_called(path, command):
    assert f"`{path}" in command.help.split("Examples:")[1]


@pytest.mark.parametrize(("path", "command"), commands(), ids=lambda item: str(item)[:40])
def test_every_option_says_what_it_takes_and_does(path, command):
    for param in command.params:
        if param.name == "help":
            continue
        assert param.help, f"{path} {param.name}"
        if param.param_type_name == "argument" or not param.is_flag:
            assert param.metavar, f"{path} {param.name}"


def test_the_issues_commands_are_all_there():
    paths = {path for path, _ in commands()}
    wanted = "generate chat node doctor health resume cancel".split()
    wanted += ["models list", "models show", "models add", "bench exactness", "bench speed"]
    assert {f"hola {name}" for name in wanted} <= paths
