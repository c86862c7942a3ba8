"""Turning single fields: wire-type errors that name the field, enums, UTF-8."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import TypeVar

from hola.errors import HolaError

M = TypeVar("M")
E = TypeVar("E", bound=enum.IntEnum)
S = TypeVar("S", bound=enum.StrEnum)


def build(kind: Callable[..., M], error: type[HolaError], **fields: object) -> M:
    """Make the message `kind(**fields)`; None leaves a field unset.

    Raises `error` naming the first field whose value does not fit its wire type. Protobuf's own
    error names no field, so it is looked for only once something is wrong.
    """
    try:
        return kind(**fields)
    except (ValueError, TypeError) as wrong:
        field = _first_wrong(kind, fields)
        raise error(f"{field}: {wrong}", field=field) from wrong


def _first_wrong(kind: Callable[..., object], fields: dict[str, object]) -> str:
    for name, value in fields.items():
        try:
            kind(**{name: value})
        except (ValueError, TypeError):
            return name
    return ", ".join(fields)


def enum_from_pb(
    kind: type[E], value: int, field: str, error: type[HolaError], *, unset: E | None = None
) -> E:
    """The domain's member for a proto enum's number.

    0 gives `unset`; without one, and for every number `kind` does not have, raises `error`.
    """
    if value == 0 and unset is not None:
        return unset
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(f"{member.value} ({member.name})" for member in kind)
        message = f"{field}: unknown value {value}; known are {known}"
        raise error(message, field=field, got=value) from None


def named_from_pb(numbers: Mapping[S, int], value: int, field: str, error: type[HolaError]) -> S:
    """The member with a proto enum's number; raises `error` for a number that none has."""
    for member, number in numbers.items():
        if number == value:
            return member
    known = ", ".join(f"{number} ({member})" for member, number in numbers.items())
    raise error(f"{field}: unknown value {value}; known are {known}", field=field, got=value)


def text_to_bytes(text: str, field: str, error: type[HolaError]) -> bytes:
    """UTF-8 bytes of a text; raises `error` on a lone surrogate."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as wrong:
        raise error(f"{field}: cannot be written as UTF-8: {wrong}", field=field) from None


def text_from_bytes(raw: bytes, field: str, error: type[HolaError]) -> str:
    """Text of UTF-8 bytes; raises `error` with the offset of the first bad byte."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as wrong:
        message = f"{field}: not valid UTF-8 at byte {wrong.start}"
        raise error(message, field=field, offset=wrong.start) from None
