"""Paths into documents: which files of a folder are read, and how each is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hola.errors import DocumentInvalid, HolaError
from hola.retrieval.readers.apart import Apart
from hola.retrieval.readers.content import GZ, decode, open_plain, read_bounded
from hola.retrieval.readers.jsonl import read_jsonl
from hola.retrieval.readers.limits import Limits
from hola.retrieval.readers.markdown import read_markdown, read_text
from hola.retrieval.types import Document

_SUFFIXES = {
    ".txt": "text", ".text": "text", ".rst": "text", ".log": "text",
    ".md": "markdown", ".markdown": "markdown",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".pdf": "pdf",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
}  # fmt: skip
FORMS = tuple(dict.fromkeys(_SUFFIXES.values()))
_PDF_MAGIC = b"%PDF-"

Read = Document | HolaError


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read, what its documents are called, and their form.

    `form` None goes by the name, then by the content.
    """

    path: Path
    source: str
    form: str | None = None


def form_named(name: str) -> str | None:
    """As `format_of`, for a name from elsewhere that may be no path here."""
    return format_of(Path(name.replace("\x00", "")))


def format_of(path: Path) -> str | None:
    """The format that a file's name promises, .gz left aside; None for none of ours."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == GZ:
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def find_files(path: Path, source: str, form: str | None = None) -> Iterator[Found]:
    """The file itself, or those of a folder whose names promise a format we read, sorted.

    Hidden ones and links to folders are passed over. Raises DocumentInvalid where nothing is.
    """
    if path.is_dir():
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                file = Path(folder) / name
                if not name.startswith(".") and format_of(file):
                    name = f"{source}/{file.relative_to(path).as_posix()}"
                    yield Found(file, _named(name), form)
    elif os.path.lexists(path):
        yield Found(path, _named(source), form)
    else:
        raise DocumentInvalid(f"{path} does not exist", source=source)


def _named(source: str) -> str:
    """A file's name as text, also where its bytes are no UTF-8."""
    return source.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class Reader:
    """Reads files of every form; a broken one gives an error and harms no other."""

    def __init__(self, limits: Limits | None = None) -> None:
        """Close it, or use it as a context: it may hold a process."""
        self._limits = limits or Limits()
        self._apart = Apart(self._limits)

    def read(self, found: Found) -> Iterator[Read]:
        """The documents of a file, and an error for each part that has none to give.

        Never raises a HolaError or OSError.
        """
        try:
            with open_plain(found.path) as file:
                yield from self.read_open(file, found.source, found.form or format_of(found.path))
        except OSError as error:
            reason = error.strerror or str(error)
            message = f"{found.path} cannot be read: {reason}"
            yield DocumentInvalid(message, source=found.source)
        except HolaError as error:
            yield error

    def read_open(self, file: BinaryIO, source: str, form: str | None) -> Iterator[Read]:
        """As `read`, from an open binary file, which stays the caller's to close."""
        if form == "jsonl":
            yield from read_jsonl(file, source, self._limits.line_bytes)
            return
        try:
            limits = self._limits
            data = read_bounded(file, source, limits.file_bytes, limits.raised_by)
            document = self._whole(data, source, form)
            if not document.blocks:
                raise DocumentInvalid(f"{source} has no text", source=source)
            yield document
        except HolaError as error:
            yield error

    def interrupt(self) -> None:
        """End the parse that runs in another thread: its document is broken then."""
        self._apart.interrupt()

    def close(self) -> None:
        """End the parsing process. Idempotent."""
        self._apart.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _whole(self, data: bytes, source: str, form: str | None) -> Document:
        if form == "pdf" or (form is None and data.startswith(_PDF_MAGIC)):
            return self._apart.parse("pdf", data, source)
        if form == "html":
            return self._apart.parse("html", data, source)
        text = decode(data, source)
        return read_markdown(text, source) if form == "markdown" else read_text(text, source)
