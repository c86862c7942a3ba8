"""Bytes as text: marks, declared encodings, and what is no text."""

from __future__ import annotations

import pytest

from hola.errors import DocumentInvalid
from hola.retrieval.readers.content import decode


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be", "utf-16-le"]
)
def test_a_byte_order_mark_decides(encoding):
    mark = "\ufeff" if encoding[-3:] in {"-be", "-le"} else ""
    assert decode((mark + "tea 猫").encode(encoding), "s").lstrip("\ufeff") == "tea 猫"


def test_a_declared_encoding_is_used():
    assert decode("thé".encode("latin-1"), "s", "iso-8859-1") == "thé"


@pytest.mark.parametrize(
    ("data", "encoding", "reason"),
    [
        ("thé".encode("latin-1"), "", "no UTF-8 text at byte 2"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff", "", "binary"),
        (b"text\x00text", "", "NUL"),
        (b"\xff\xfeodd", "", "no utf-16 text"),
        (b"text", "no-such-encoding", "no no-such-encoding text"),
        (b"text", "zlib", "no zlib text"),
        (b"x" * 9 + b"\x80", "ascii", "at byte 9"),
    ],
)
def test_what_is_no_text_is_said(data, encoding, reason):
    with pytest.raises(DocumentInvalid, match=reason):
        decode(data, "s", encoding)
