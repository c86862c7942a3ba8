"""Files and folders of every form; hostile ones cost an error each, not the others."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import pytest

from hola.errors import DocumentInvalid
from hola.retrieval.readers.files import Found, Reader, find_files
from hola.retrieval.readers.limits import MIB, Limits
from hola.retrieval.types import Document
from tests.support.documents import bomb_pdf, encrypted_pdf, pdf


@pytest.fixture(scope="module")
def reader():
    with Reader(Limits(file_bytes=4 * MIB, parse_s=60.0, pages=5)) as opened:
        yield opened


def read_one(reader: Reader, path: Path, form: str | None = None) -> Document | DocumentInvalid:
    (made,) = reader.read(Found(path, "s", form))
    return made


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_pdf_gives_paragraphs_with_their_pages(reader, tmp_path):
    made = read_one(reader, write(tmp_path / "a.pdf", pdf("Green tea", "Black tea\nis strong")))
    assert [(block.page, block.text) for block in made.blocks] == [
        (1, "Green tea"),
        (2, "Black tea\nis strong"),
    ]


def test_a_pdf_is_known_by_its_first_bytes_too(reader, tmp_path):
    made = read_one(reader, write(tmp_path / "no-suffix", pdf("Green tea")))
    assert made.blocks[0].page == 1


HOSTILE = {
    "broken.pdf": (b"%PDF-1.7\n" + bytes(range(256)) * 40, "broken PDF|no text"),
    "cut.pdf": (pdf("text " * 500)[:600], "broken PDF|no text"),
    "empty.pdf": (b"", "broken PDF"),
    "scanned.pdf": (pdf(""), "no text"),
    "long.pdf": (pdf(*["page"] * 6), "more than 5 pages"),
    "latin.txt": ("thé".encode("latin-1"), "no UTF-8 text at byte 2"),
    "program.txt": (b"\x7fELF\x02\x01\x01\x00" * 30, "binary"),
    "empty.md": (b"\n\n", "no text"),
    "large.txt": (b"x" * (4 * MIB + 1), "more than 4,194,304 bytes"),
    "bomb.txt.gz": (gzip.compress(b"x" * (64 * MIB)), "more than 4,194,304 bytes"),
    "cut.txt.gz": (gzip.compress(os.urandom(1000))[:500], "cannot be read"),
    "no.txt.gz": (b"plain", "cannot be read"),
    "archive.zip": (b"PK\x03\x04\x14\x00\x00\x00\x08\x00" * 9, "binary"),
    "odd.html": (b'<meta charset="utf-7\xff"><p>\xff', "no utf-7 text"),
    "script.html": (b"<script>alert(1)", "no text"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_gives_a_typed_error(reader, tmp_path, name):
    data, reason = HOSTILE[name]
    made = read_one(reader, write(tmp_path / name, data))
    assert isinstance(made, DocumentInvalid)
    assert re.search(reason, made.message)


def test_an_encrypted_pdf_is_said_to_be_and_one_without_password_is_read(reader, tmp_path):
    made = read_one(reader, write(tmp_path / "locked.pdf", encrypted_pdf("secret")))
    assert "encrypted" in made.message
    opened = read_one(reader, write(tmp_path / "open.pdf", encrypted_pdf("")))
    assert opened.blocks[0].text == "secret text"


def test_a_bomb_in_a_pdf_ends_in_an_error_and_the_next_file_is_read(tmp_path):
    bomb = write(tmp_path / "bomb.pdf", bomb_pdf(600))
    assert bomb.stat().st_size < 2 * MIB
    with Reader(Limits(parse_s=60.0, parse_bytes=400 * MIB)) as reader:
        assert isinstance(read_one(reader, bomb), DocumentInvalid)
        good = read_one(reader, write(tmp_path / "good.pdf", pdf("Green tea")))
        assert good.blocks[0].text == "Green tea"


def test_a_file_that_takes_too_long_is_given_up_and_the_next_is_read(tmp_path):
    slow = write(tmp_path / "slow.html", b"<p>" * 1_000_000)
    with Reader(Limits(parse_s=0.0)) as reader:
        assert "more than 0 s" in read_one(reader, slow).message
    with Reader(Limits(parse_s=60.0)) as reader:
        assert read_one(reader, write(tmp_path / "ok.html", b"<p>tea")).blocks[0].text == "tea"


def test_what_is_no_regular_file_is_not_waited_for(reader, tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    assert "no regular file" in read_one(reader, tmp_path / "pipe.txt").message
    assert "no regular file" in read_one(reader, Path("/dev/zero")).message
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    assert "cannot be read" in read_one(reader, tmp_path / "dangling.txt").message


def test_a_packed_file_is_read_as_what_is_in_it(reader, tmp_path):
    made = read_one(reader, write(tmp_path / "a.md.gz", gzip.compress(b"# Tea\nGreen")))
    assert (made.title, made.blocks[0].text) == ("Tea", "Green")


def test_the_form_may_be_said(reader, tmp_path):
    path = write(tmp_path / "page.txt", b"<p>tea</p>")
    assert read_one(reader, path).blocks[0].text == "<p>tea</p>"
    assert read_one(reader, path, "html").blocks[0].text == "tea"


def test_a_folder_gives_its_files_of_known_forms_in_order(tmp_path):
    for name in ("b.md", "a.txt", "sub/c.HTML", "sub/d.jsonl.gz", "x.png", ".hidden.md",
                 ".git/e.md", "README"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [entry.source for entry in find_files(tmp_path, "root")]
    assert found == ["root/a.txt", "root/b.md", "root/sub/c.HTML", "root/sub/d.jsonl.gz"]


def test_a_name_that_is_no_utf8_is_still_a_name(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("text")
    (entry,) = find_files(tmp_path, "root")
    assert entry.source == "root/\ufffd.txt"


def test_a_path_where_nothing_is(tmp_path):
    with pytest.raises(DocumentInvalid, match="does not exist"):
        list(find_files(tmp_path / "nowhere", "s"))


def test_an_interrupted_parse_costs_one_document_and_the_reader_goes_on(tmp_path):
    path = write(tmp_path / "a.pdf", pdf("Green tea"))
    with Reader() as reader:
        reader.interrupt()  # nothing runs yet
        assert isinstance(read_one(reader, path), Document)
        reader.interrupt()
        broken = read_one(reader, path)
        assert isinstance(broken, DocumentInvalid)
        assert "broke the parser" in broken.message
        assert isinstance(read_one(reader, path), Document)
