"""PDF into blocks by pypdf: a page's paragraphs, with its number."""

from __future__ import annotations

import io
import logging
import re

from hola.errors import DocumentInvalid, HolaError
from hola.extras import require
from hola.retrieval.readers.content import printable
from hola.retrieval.types import Block, Document

_MAX_TITLE = 300


def read_pdf(data: bytes, source: str, max_pages: int) -> Document:
    """The text of a PDF. Run it where it may fail: a hostile one takes any time and memory.

    Raises DocumentInvalid (broken, encrypted, without text), MissingExtra.
    """
    pypdf = require("pypdf", "retrieval")
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its complaints come as our error
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentInvalid(f"{source} is encrypted", source=source)
        if len(reader.pages) > max_pages:
            raise DocumentInvalid(f"{source} has more than {max_pages:,} pages", source=source)
        title = printable(str((reader.metadata or {}).get("/Title") or "")).strip()
        blocks = [
            Block(text=part.strip(), page=number)
            for number, page in enumerate(reader.pages, 1)
            for part in re.split(r"\n\s*\n", printable(page.extract_text()))
            if part.strip()
        ]
    except HolaError:
        raise
    except MemoryError:
        raise DocumentInvalid(f"{source} needs too much memory", source=source) from None
    except RecursionError:
        raise DocumentInvalid(f"{source} is nested too deeply", source=source) from None
    except Exception as error:  # broken files raise nearly anything in pypdf
        kind = type(error).__name__
        if kind == "DependencyError":  # AES without the cryptography package
            raise DocumentInvalid(f"{source} is encrypted", source=source) from error
        raise DocumentInvalid(
            f"{source} is a broken PDF: {kind}: {error}", source=source
        ) from error
    if not blocks:
        raise DocumentInvalid(f"{source} has no text (scanned pages?)", source=source)
    return Document(source=source, title=title[:_MAX_TITLE], blocks=tuple(blocks))
