"""A file's bytes, unpacked and bounded, and bytes as text; what is neither is said."""

from __future__ import annotations

import codecs
import gzip
import os
import stat
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from hola.errors import DocumentInvalid

GZ = ".gz"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16's, so it is looked for first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
READ_ERRORS = (OSError, EOFError, zlib.error)


def open_raw(path: Path) -> BinaryIO:
    """Open a regular file as it is. Raises DocumentInvalid, OSError."""
    # A pipe or a device would never end; without O_NONBLOCK opening one already waits.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    file = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise DocumentInvalid(f"{path} is no regular file", source=path)
    return file


def open_plain(path: Path) -> BinaryIO:
    """Open a regular file, unpacking what ends in .gz. Raises DocumentInvalid, OSError."""
    file = open_raw(path)
    if path.suffix.lower() != GZ:
        return file
    return cast("BinaryIO", _OwningGzip(file))


class _OwningGzip(gzip.GzipFile):
    """A GzipFile that closes the file it reads."""

    def __init__(self, inner: BinaryIO) -> None:
        super().__init__(fileobj=inner)
        self._inner = inner

    def close(self) -> None:
        """Close both."""
        try:
            super().close()
        finally:
            self._inner.close()


def read_bounded(file: BinaryIO, source: str, limit: int, raised_by: str) -> bytes:
    """Everything in the file. Raises DocumentInvalid beyond `limit` bytes or for broken packing."""
    try:
        data = file.read(limit + 1)
    except READ_ERRORS as error:
        raise DocumentInvalid(f"{source} cannot be read: {error}", source=source) from error
    if len(data) > limit:
        raise DocumentInvalid(
            f"{source} has more than {limit:,} bytes; {raised_by} allows more", source=source
        )
    return data


def decode(data: bytes, source: str, encoding: str = "") -> str:
    """Bytes as text: by byte order mark, else `encoding`, else UTF-8.

    Raises DocumentInvalid, naming the byte, for what is no text in it.
    """
    for mark, marked in _BOMS:
        if data.startswith(mark):
            encoding = marked
            break
    try:
        text = data.decode(encoding or "utf-8")
    except (UnicodeError, LookupError) as error:
        where = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        kind = "binary" if b"\x00" in data[:4096] else f"no {encoding or 'UTF-8'} text{where}"
        raise DocumentInvalid(f"{source} is {kind}", source=source) from error
    if "\x00" in text:
        raise DocumentInvalid(f"{source} is binary (it has NUL characters)", source=source)
    return text


def printable(text: str) -> str:
    """Text without NUL, with ? for halves of surrogate pairs: what extraction can leave behind."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
