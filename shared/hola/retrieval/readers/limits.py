"""How much of a file is read before it counts as an attack or a mistake."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`file_bytes` bounds a document (packed or not), `line_bytes` a record of JSON lines.

    A file of JSON lines is read record by record and has no bound as a whole. PDF and HTML are
    taken apart in a process of their own, with `parse_s` seconds and `parse_bytes` of memory.
    `raised_by` is what a user sets to have more than `file_bytes`.
    """

    file_bytes: int = 64 * MIB
    line_bytes: int = 4 * MIB
    parse_s: float = 60.0
    parse_bytes: int = 1024 * MIB
    pages: int = 10_000
    raised_by: str = "--max-mb"
