"""The table of all settings, read off the fields of a settings class: name, form, unit, reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

PREFIX = "HOLA_"
UNITS = {"_s": "seconds", "_ms": "milliseconds", "_mb": "MiB", "_bytes": "bytes"}

# What a field says of itself beside its default: `Field(..., json_schema_extra=ON_SIGHUP)`.
ON_SIGHUP: dict[str, Any] = {"reload": "SIGHUP"}
BY_ITSELF: dict[str, Any] = {"reload": "by itself"}
BY_ALL: dict[str, Any] = {"read_by": "all"}
SECRET: dict[str, Any] = {"secret": True}


@dataclass(frozen=True, slots=True)
class Variable:
    """One row of the table, as text.

    `reload` says when a running process takes a changed value (or file) up: "no" (at its next
    start), "SIGHUP", or "by itself". `read_by` is empty where the code says it. `is_secret` ones
    are never shown.
    """

    name: str
    default: str
    description: str
    form: str
    unit: str = ""
    reload: str = "no"
    read_by: str = ""
    is_secret: bool = False

    @property
    def field(self) -> str:
        """The setting's name in a file and in `Settings`, e.g. log_level."""
        return self.name.removeprefix(PREFIX).lower()

    @property
    def flag(self) -> str:
        """The setting's name on a command line, e.g. --log-level."""
        return "--" + self.field.replace("_", "-")


def table_of(settings: type[BaseSettings]) -> tuple[Variable, ...]:
    """One row per field, in their order."""
    return tuple(_row(field, info) for field, info in settings.model_fields.items())


def _row(field: str, info: FieldInfo) -> Variable:
    said: Mapping[str, Any] = (
        info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    )
    unit = next((word for suffix, word in UNITS.items() if field.endswith(suffix)), "")
    return Variable(
        name=PREFIX + field.upper(),
        default=str(int(info.default) if isinstance(info.default, bool) else info.default),
        description=info.description or "",
        form=form_of(info),
        unit=str(said.get("unit", unit)),
        reload=str(said.get("reload", "no")),
        read_by=str(said.get("read_by", "")),
        is_secret=bool(said.get("secret", False)),
    )


def form_of(info: FieldInfo) -> str:
    """The values a field takes, in words, e.g. "integer, 0 to 1024"."""
    annotation: Any = info.annotation
    if options := getattr(annotation, "__args__", None):
        return "one of " + ", ".join(map(str, options))
    word = {int: "integer", float: "number", bool: "0 or 1", str: "text"}[annotation]
    bounds = {
        key: value
        for constraint in info.metadata
        for key in ("ge", "gt", "le")
        if (value := getattr(constraint, key, None)) is not None
    }
    if "le" in bounds and "gt" in bounds:
        return f"{word}, above {bounds['gt']}, at most {bounds['le']}"
    if "le" in bounds:
        return f"{word}, {bounds['ge']} to {bounds['le']}"
    if "ge" in bounds:
        return f"{word}, at least {bounds['ge']}"
    return f"{word}, above {bounds['gt']}" if "gt" in bounds else word
