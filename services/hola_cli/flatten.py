"""Lets commands share options: a dataclass parameter of a command becomes its fields' options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_type_hints


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter whose type is a dataclass by one parameter per field.

    Typer reads a command's options from its signature, so this is all that is needed for several
    commands to have the same options. Field names must differ between a command's dataclasses.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters
    groups = {name: hints[name] for name in parameters if is_dataclass(hints[name])}

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    del run.__wrapped__
    flattened: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        if name in groups:
            flattened += _options(groups[name])
        else:
            kind = inspect.Parameter.KEYWORD_ONLY
            flattened.append(parameter.replace(kind=kind, annotation=hints[name]))
    run.__signature__ = inspect.Signature(flattened)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in flattened}
    return run


def _options(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(field),
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return inspect.Parameter.empty
