"""A dataclass parameter of a command becomes one option per field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from hola_cli.flatten import flat

seen: list[object] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Paint:
    colour: Annotated[str, typer.Option("--colour", "-c")] = "red"
    coats: Annotated[int, typer.Option("--coats")] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Brush:
    width: Annotated[float, typer.Option("--width")]


def call(*arguments: str):
    app = typer.Typer()

    @app.command()
    @flat
    def work(wall: str, paint: Paint, brush: Brush, twice: bool = False) -> None:
        """Paint it."""
        seen[:] = [wall, paint, brush, twice]

    return CliRunner().invoke(app, list(arguments))


def test_fields_become_options_and_come_back_as_dataclasses():
    result = call("north", "-c", "blue", "--width", "2.5", "--twice")
    assert result.exit_code == 0, result.output
    assert seen == ["north", Paint(colour="blue", coats=1), Brush(width=2.5), True]


def test_a_field_without_default_is_required():
    assert call("north").exit_code == 2


def test_a_value_of_the_wrong_type_is_refused():
    result = call("north", "--width", "1", "--coats", "many")
    assert result.exit_code == 2
    assert "coats" in result.output


def test_help_is_the_commands_own():
    assert "Paint it." in call("--help").output
