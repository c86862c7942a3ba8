"""JSON lines: a document per record, an error per line that is none, and the rest goes on."""

from __future__ import annotations

import gzip
import io
import json

import pytest

from hola.errors import DocumentInvalid
from hola.retrieval.readers.jsonl import read_jsonl
from hola.retrieval.types import Document


def read(data: bytes, line_bytes: int = 10_000) -> list[Document | DocumentInvalid]:
    return list(read_jsonl(io.BytesIO(data), "f", line_bytes))


def test_records_are_named_by_id_or_line():
    rows = [
        {"_id": "a", "title": "T", "text": "one\n\ntwo"},
        {"id": 7, "contents": "three"},
        {"body": "four", "id": None},
    ]
    documents = read("\n\n".join(json.dumps(row) for row in rows).encode())
    assert [made.source for made in documents] == ["f#a", "f#7", "f#L5"]
    assert documents[0].title == "T"
    assert [block.text for block in documents[0].blocks] == ["one", "two"]


BAD = {
    "not JSON": b"{oops",
    "not an object": b'["text"]',
    "no text": b'{"id": 1, "title": "x"}',
    "text is a number": b'{"text": 5}',
    "not UTF-8": b'{"text": "\xff\xfe"}',
    "too deep": b'{"text": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "too long": b'{"text": "' + b"x" * 20_000 + b'"}',
    "a huge number": b'{"text": ' + b"9" * 9000 + b"}",
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_line_gives_an_error_that_names_it_and_the_rest_goes_on(case):
    first, bad, last = read(b'{"text": "one"}\n' + BAD[case] + b'\n{"text": "three"}')
    assert (first.source, last.source) == ("f#L1", "f#L3")
    assert isinstance(bad, DocumentInvalid)
    assert "f:2" in bad.message


def test_halves_of_surrogate_pairs_and_nul_do_no_harm():
    (made,) = read(b'{"id": "\\ud800x", "title": "\\u0000t", "text": "a\\udc00b\\u0000"}')
    assert (made.source, made.title, made.blocks[0].text) == ("f#?x", "t", "a?b")


def test_a_line_that_never_ends_is_skipped_in_bounded_reads():
    class Counting(io.BytesIO):
        largest = 0

        def readline(self, size=-1, /):
            line = super().readline(size)
            Counting.largest = max(Counting.largest, len(line))
            return line

    file = Counting(b"x" * 1_000_000 + b'\n{"text": "after"}\n')
    bad, after = read_jsonl(file, "f", 1000)
    assert isinstance(bad, DocumentInvalid)
    assert after.blocks[0].text == "after"
    assert Counting.largest == 1001


def test_broken_packing_ends_the_file_with_an_error():
    packed = gzip.compress(b'{"text": "one"}\n' * 50_000)
    file = gzip.GzipFile(fileobj=io.BytesIO(packed[: len(packed) // 2]))
    *_, last = read_jsonl(file, "f", 1000)
    assert isinstance(last, DocumentInvalid)
    assert "cannot be read" in last.message
