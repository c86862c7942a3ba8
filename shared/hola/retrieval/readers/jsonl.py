"""JSON lines into documents, one record at a time, whatever a line holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from hola.errors import DocumentInvalid
from hola.retrieval.readers.content import READ_ERRORS, printable
from hola.retrieval.readers.markdown import read_text
from hola.retrieval.types import Document

# The first of these that a record has.
_IDS = ("_id", "id")
_TEXTS = ("text", "contents", "content", "body", "passage")
_MAX_TITLE = 300
_MAX_ID = 1000


def read_jsonl(
    file: BinaryIO, source: str, line_bytes: int
) -> Iterator[Document | DocumentInvalid]:
    """A document per line, called `source#ID`, or `source#L` and the line's number without an id.

    A record has a text (`text`, `contents`, `content`, `body` or `passage`) and may have a
    `title`. A line that is no such record, or has more than `line_bytes`, gives a DocumentInvalid;
    the next lines follow. One that cannot be read ends the file.
    """
    number = 0
    while True:
        number += 1
        where = f"{source}:{number}"
        try:
            line = file.readline(line_bytes + 1)
            if not line:
                return
            if len(line) > line_bytes:
                _skip_line(file, line, line_bytes)
                yield _invalid(f"{where} has more than {line_bytes:,} bytes", source)
                continue
        except READ_ERRORS as error:
            yield _invalid(f"{where} cannot be read: {error}", source)
            return
        if line.strip():
            try:
                yield _document(json.loads(line), source, number)
            except (ValueError, RecursionError) as error:
                reason = "nested too deeply" if isinstance(error, RecursionError) else error
                yield _invalid(f"{where} is no record: {reason}", source)


def _skip_line(file: BinaryIO, line: bytes, step: int) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(step)


def _document(record: Any, source: str, number: int) -> Document:
    """Raises ValueError for a record without text."""
    if not isinstance(record, dict):
        raise ValueError("not an object")
    text = next((record[name] for name in _TEXTS if isinstance(record.get(name), str)), None)
    if text is None:
        raise ValueError(f"no text in any of {', '.join(_TEXTS)}")
    title = record.get("title")
    identity = next((record[name] for name in _IDS if record.get(name) not in (None, "")), None)
    if isinstance(identity, str | int) and not isinstance(identity, bool):
        name = printable(str(identity))[:_MAX_ID]
    else:
        name = f"L{number}"
    made = read_text(printable(text), f"{source}#{name}")
    heading = printable(title)[:_MAX_TITLE] if isinstance(title, str) else ""
    return Document(source=made.source, title=heading, blocks=made.blocks)


def _invalid(message: str, source: str) -> DocumentInvalid:
    return DocumentInvalid(message, source=source)
