"""Domain objects as JSON: lower-case names for enumerations, one object per line for streams."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from hola.types import Correction, Failure, GenerateEvent, Started, Summary, Tokens

_NAMES = {
    Started: "started",
    Tokens: "tokens",
    Correction: "corrected",
    Summary: "finished",
    Failure: "failed",
}


def plain(value: Any) -> Any:
    """The value in JSON's own types: dataclasses to objects, enumerations to lower-case names."""
    if isinstance(value, enum.IntEnum):
        return value.name.lower()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def dump(value: Any, file: TextIO | None = None) -> None:
    """Print one value as one line of JSON and flush it."""
    print(json.dumps(plain(value), ensure_ascii=False), file=file or sys.stdout, flush=True)


class JsonLines:
    """A screen that prints each event as one line: {"event": "tokens", "position": 0, ...}."""

    def show(self, event: GenerateEvent) -> None:
        """Print one event."""
        dump({"event": _NAMES[type(event)], **plain(event)})
