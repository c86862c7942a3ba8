"""Spools: one place per folder, files as they were sent, limits, and what is left over found."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hola.errors import HolaError, InvalidRequest, Overloaded, StoreCorrupt, StoreUnavailable
from hola.retrieval.ingest_job import FileHead, IngestJob, TextDocument
from hola.retrieval.readers.files import Reader
from hola.retrieval.spool import SpoolLimits, Spools, SpoolWriter
from hola.retrieval.types import Document


def spools(folder: Path, **limits: int) -> Spools:
    return Spools(folder, SpoolLimits(**limits))


def job(writer: SpoolWriter) -> IngestJob:
    """The job of a spool that is closed now."""
    return IngestJob(job_id="j", tenant="acme", digest=writer.close(durable=True).digest)


def documents(made: Spools, one: IngestJob) -> list[Document | HolaError]:
    spool = made.open(one)
    with Reader() as reader:
        return [read for entry in spool.entries for read in spool.read(entry, reader)]


def test_files_come_out_as_they_went_in(tmp_path):
    made = spools(tmp_path)
    writer = made.begin("acme", "j")
    writer.file(FileHead(source="a", name="a.md"))
    for piece in (b"# Ti", b"tle\n\nwo", b"rds"):
        writer.data(piece)
    writer.document(TextDocument(source="b", text="some text", title="B"))
    writer.file(FileHead(source="empty"))
    writer.file(FileHead(source="rows", form="jsonl"))
    writer.data(b'{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n')
    assert writer.files == 4
    one = job(writer)
    *read, first, second = documents(made, one)
    assert [each.title for each in read if isinstance(each, Document)] == ["Title", "B"]
    assert "empty has no text" in str(read[2])
    assert [first.source, second.source] == ["rows#1", "rows#2"]
    made.remove("acme", "j")
    made.remove("acme", "j")
    with pytest.raises(StoreCorrupt):
        made.open(one)


def test_a_place_is_made_once_and_the_same_for_all(tmp_path):
    first, second = spools(tmp_path / "data"), spools(tmp_path / "data")
    assert first.place() == ""
    assert not (tmp_path / "data").exists()
    place = first.place(make=True)
    assert len(place) == 32
    assert second.place(make=True) == second.place() == place
    assert spools(tmp_path / "other").place(make=True) != place
    assert [path.name for path in (tmp_path / "data/.spool").iterdir()] == ["place"]


def test_limits(tmp_path):
    made = spools(tmp_path, files=2, bytes=100, file_bytes=10)
    writer = made.begin("acme", "j")
    writer.file(FileHead(source="big"))
    writer.data(b"x" * 8)
    writer.data(b"x" * 8)
    writer.data(b"x" * 8)
    writer.file(FileHead(source="ok"))
    writer.data(b"fits")
    with pytest.raises(InvalidRequest, match="100 bytes"):
        writer.data(b"x" * 80)
    with pytest.raises(InvalidRequest, match="2 files"):
        writer.file(FileHead(source="third"))
    assert writer.sent_bytes == 108
    read = documents(made, job(writer))
    assert "big has more than 10 bytes" in str(read[0])
    assert isinstance(read[1], Document)
    assert (tmp_path / ".spool/j.acme/data").read_bytes() == b"fits"


def test_a_full_spool_takes_no_more(tmp_path):
    made = spools(tmp_path, total_bytes=10)
    writer = made.begin("acme", "j")
    writer.file(FileHead(source="a"))
    writer.data(b"x" * 10)
    writer.close(durable=False)
    assert made.used_bytes() == 10
    with pytest.raises(Overloaded) as full:
        made.begin("acme", "k")
    assert full.value.retry_after_s


def test_what_is_left_over_is_found_by_its_age(tmp_path):
    made = spools(tmp_path)
    made.place(make=True)
    for name, tenant in (("old", "acme"), ("new", "a.b-c")):
        made.begin(tenant, name).close(durable=False)
    long_ago = time.time() - 1000
    folder = tmp_path / ".spool/old.acme"
    for path in (*folder.iterdir(), folder):
        os.utime(path, (long_ago, long_ago))
    assert made.older_than(500) == [("acme", "old")]
    assert set(made.older_than(-1)) == {("acme", "old"), ("a.b-c", "new")}
    made.begin("x", "y").discard()
    assert len(made.older_than(-1)) == 2


def test_a_disk_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / ".spool").write_text("a file")
    with pytest.raises(StoreUnavailable):
        spools(tmp_path).place(make=True)
    with pytest.raises(StoreUnavailable):
        spools(tmp_path).begin("acme", "j")


def test_a_title_is_cut_and_a_text_of_nothing_refused(tmp_path):
    made = spools(tmp_path)
    writer = made.begin("acme", "j")
    writer.document(TextDocument(source="a", text="words", title="t" * 1000))
    writer.document(TextDocument(source="b", text="a\x00b"))
    titled, binary = documents(made, job(writer))
    assert isinstance(titled, Document)
    assert len(titled.title) == 300
    assert "binary" in str(binary)


@pytest.mark.parametrize(("tenant", "job_id"), [("acme", "../x"), ("a/b", "j"), ("acme", "")])
def test_no_name_leads_out_of_the_folder(tmp_path, tenant, job_id):
    made = spools(tmp_path)
    for call in (made.begin, made.remove):
        with pytest.raises(InvalidRequest):
            call(tenant, job_id)
    with pytest.raises(InvalidRequest):
        made.open(IngestJob(job_id=job_id, tenant=tenant))
