"""Files of ingests on their way in: a folder per ingest beside the collections, digests with each.

`DATA/.spool/JOB.TENANT/data` holds the bytes of all files one after the other, `list.jsonl` a line
for each: what it is called, where it lies, its sha256. The list is written last, so a folder
without one was never finished. No tenant's folder is called `.spool` (rules.tenant_folder).
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

from hola.errors import (
    DocumentInvalid,
    HolaError,
    InvalidRequest,
    Overloaded,
    StoreCorrupt,
    StoreUnavailable,
)
from hola.retrieval.ingest_job import FileHead, IngestJob, TextDocument
from hola.retrieval.readers.content import GZ, printable
from hola.retrieval.readers.files import FORMS, Read, Reader, form_named
from hola.retrieval.readers.markdown import read_text
from hola.retrieval.rules import check_sources
from hola.retrieval.types import Document
from hola.validate import check_request_id, check_tenant

FOLDER = ".spool"
RETRY_AFTER_MS = 30_000
MIB = 2**20
_PLACE, _DATA, _LIST = "place", "data", "list.jsonl"
_DOCUMENT = "document"
MAX_SOURCE = 3000  # a record's id comes behind it
MAX_TITLE = 300
_HASHED_AT_A_TIME = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """Most of one ingest (`files`, `bytes`), of one file that is not JSON lines, and of all spools.

    A spool is begun only while there are less than `total_bytes`, so that many at a time can take
    more than that by what each of them may.
    """

    files: int = 10_000
    bytes: int = 1024 * MIB
    file_bytes: int = 64 * MIB
    total_bytes: int = 4096 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of a spool. `form` "" goes by the content; `refused` says why it is not there."""

    source: str
    form: str = ""
    packed: bool = False
    offset: int = 0
    bytes: int = 0
    sha256: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Spooled:
    """What a finished spool holds; `digest` is its list's."""

    files: int
    bytes: int
    digest: str


class Spools:
    """The spools beside one folder of collections. Methods block; they raise StoreUnavailable."""

    def __init__(self, data_dir: Path, limits: SpoolLimits) -> None:
        """Nothing is made until the first ingest."""
        self._root = data_dir / FOLDER
        self.limits = limits

    def place(self, *, make: bool = False) -> str:
        """The name of this folder on the bus: processes that see the same files have the same one.

        "" while there is none; with `make` it is made.
        """
        path = self._root / _PLACE
        with _disk_errors():
            if make and not path.exists():
                self._root.mkdir(parents=True, exist_ok=True)
                fresh = self._root / f".{uuid.uuid4().hex}"
                fresh.write_text(uuid.uuid4().hex, encoding="ascii")
                with contextlib.suppress(FileExistsError):  # another process was faster
                    os.link(fresh, path)
                fresh.unlink()
            return path.read_text(encoding="ascii") if path.exists() else ""

    def begin(self, tenant: str, job_id: str) -> SpoolWriter:
        """A new spool. Raises Overloaded where there is too much in spools already."""
        used = self.used_bytes()
        if used >= self.limits.total_bytes:
            raise Overloaded(
                f"files of ingests that have not ended take {used // MIB} MiB, the limit",
                retry_after_ms=RETRY_AFTER_MS,
            )
        return SpoolWriter(self._folder(tenant, job_id), self.limits)

    def open(self, job: IngestJob) -> Spool:
        """A finished spool. Raises StoreCorrupt where it is gone, or is not what it was."""
        return Spool(self._folder(job.tenant, job.job_id), job.digest)

    def remove(self, tenant: str, job_id: str) -> None:
        """Delete one. Idempotent."""
        shutil.rmtree(self._folder(tenant, job_id), ignore_errors=True)

    def older_than(self, seconds: float) -> list[tuple[str, str]]:
        """Tenant and job of those that nobody has written to for so long."""
        bound = time.time() - seconds
        names = [folder.name for folder in self._folders() if _changed(folder) < bound]
        return [(tenant, job_id) for job_id, _, tenant in (name.partition(".") for name in names)]

    def used_bytes(self) -> int:
        """What all of them take."""
        found = 0
        for folder in self._folders():
            with contextlib.suppress(OSError):
                found += (folder / _DATA).stat().st_size
        return found

    def _folder(self, tenant: str, job_id: str) -> Path:
        """Raises InvalidRequest for names that could lead elsewhere: a job's come from the bus."""
        check_request_id(job_id)
        check_tenant(tenant)
        return self._root / f"{job_id}.{tenant}"

    def _folders(self) -> list[Path]:
        with _disk_errors():
            found = self._root.iterdir() if self._root.is_dir() else ()
            return [each for each in found if each.is_dir()]


class SpoolWriter:
    """One spool while it is written: `file` and its `data`, `document`s, then `close` or `discard`.

    Raises InvalidRequest where more comes than the limits allow, or out of order. `discard` may
    come while another thread is at a step that nobody waits for any more: it lets that step end.
    """

    def __init__(self, folder: Path, limits: SpoolLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._entries: list[Entry] = []
        self._open: Entry | None = None
        self._hash = hashlib.sha256()
        self._bytes = 0  # as sent
        self._offset = 0  # as kept
        self._step = threading.Lock()
        with _disk_errors():
            folder.mkdir(parents=True, mode=0o700)
            self._data = (folder / _DATA).open("xb")

    @property
    def sent_bytes(self) -> int:
        """What has been sent."""
        return self._bytes

    @property
    def files(self) -> int:
        """Files and documents begun."""
        return len(self._entries) + (self._open is not None)

    def file(self, head: FileHead) -> None:
        """Begin a file. Raises InvalidRequest for a name that is none, or one file too many."""
        if head.form not in ("", *FORMS):
            raise InvalidRequest(f"format is one of {', '.join(FORMS)}", field="format")
        name = head.name or head.source
        form = head.form or form_named(name) or ""
        self._begin(Entry(source=head.source, form=form, packed=name.lower().endswith(GZ)))

    def data(self, piece: bytes) -> None:
        """The next bytes of the file begun last; those of one that is too large are let go."""
        entry = self._open
        if entry is None:
            raise InvalidRequest("data: no file has been begun", field="data")
        self._bytes += len(piece)
        if self._bytes > self._limits.bytes:
            raise _too_much("data", f"{self._limits.bytes:,} bytes")
        size, most = entry.bytes + len(piece), self._limits.file_bytes
        if entry.form != "jsonl" and size > most:
            self._open = replace(entry, bytes=0, refused=f"{entry.source} has more than {most:,}")
            self._keep_from(entry.offset)
            return
        if not entry.refused:
            with self._step, _disk_errors():
                self._data.write(piece)
            self._hash.update(piece)
            self._offset += len(piece)
            self._open = replace(entry, bytes=size)

    def document(self, document: TextDocument) -> None:
        """A whole document."""
        self._begin(Entry(source=document.source, form=_DOCUMENT))
        body = {"title": document.title, "text": document.text}
        self.data(json.dumps(body).encode())

    def close(self, *, durable: bool) -> Spooled:
        """Write the list; with `durable` all of it is on disk then."""
        self._end_file()
        lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in self._entries).encode()
        with self._step, _disk_errors():
            _end(self._data, durable=durable)
            with (self._folder / f".{_LIST}").open("xb") as file:
                file.write(lines)
                _end(file, durable=durable)
            (self._folder / f".{_LIST}").rename(self._folder / _LIST)
        return Spooled(len(self._entries), self._bytes, hashlib.sha256(lines).hexdigest())

    def discard(self) -> None:
        """Delete everything. Idempotent."""
        with self._step:
            self._data.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _begin(self, entry: Entry) -> None:
        self._end_file()
        check_sources([entry.source])
        if len(entry.source) > MAX_SOURCE:
            raise InvalidRequest(f"a source has at most {MAX_SOURCE} characters", field="source")
        if self.files >= self._limits.files:
            raise _too_much("files", f"{self._limits.files:,} files")
        self._open = replace(entry, offset=self._offset)
        self._hash = hashlib.sha256()

    def _end_file(self) -> None:
        if self._open is not None:
            self._entries.append(replace(self._open, sha256=self._hash.hexdigest()))
            self._open = None

    def _keep_from(self, offset: int) -> None:
        with self._step, _disk_errors():
            self._data.seek(offset)
            self._data.truncate()
        self._offset = offset


class Spool:
    """A finished spool, read entry by entry. Blocking."""

    def __init__(self, folder: Path, digest: str) -> None:
        """Raises StoreCorrupt where it is gone, or its list is not what it was."""
        self._folder = folder
        try:
            lines = (folder / _LIST).read_bytes()
        except OSError as error:
            raise StoreCorrupt(f"the files of this ingest are gone: {error}") from error
        if hashlib.sha256(lines).hexdigest() != digest:
            raise StoreCorrupt("the list of this ingest's files has changed", file=folder / _LIST)
        self.entries = tuple(Entry(**json.loads(line)) for line in lines.splitlines())

    def read(self, entry: Entry, reader: Reader) -> Iterator[Read]:
        """The documents of an entry, and an error for each part that has none to give.

        Raises StoreCorrupt where its bytes are not those that were sent.
        """
        if entry.refused:
            yield DocumentInvalid(f"{entry.refused} bytes, the limit", source=entry.source)
            return
        with self._slice(entry) as file:
            digest = hashlib.sha256()
            while piece := file.read(_HASHED_AT_A_TIME):
                digest.update(piece)
        if digest.hexdigest() != entry.sha256:
            raise StoreCorrupt(f"{entry.source} is not what was sent", file=self._folder / _DATA)
        with self._slice(entry) as file:
            if entry.form == _DOCUMENT:
                yield _document(entry.source, json.loads(file.read()))
                return
            plain = cast("BinaryIO", gzip.GzipFile(fileobj=file)) if entry.packed else file
            yield from reader.read_open(plain, entry.source, entry.form or None)

    def _slice(self, entry: Entry) -> BinaryIO:
        try:
            raw = _Slice((self._folder / _DATA).open("rb", buffering=0), entry.offset, entry.bytes)
        except OSError as error:
            raise StoreCorrupt(f"the files of this ingest are gone: {error}") from error
        return cast("BinaryIO", io.BufferedReader(raw, MIB))


class _Slice(io.RawIOBase):
    """A stretch of a file as a file."""

    def __init__(self, file: io.RawIOBase | BinaryIO, offset: int, size: int) -> None:
        self._file = file
        self._left = size
        file.seek(offset)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """As any file's."""
        piece = self._file.read(min(len(buffer), self._left)) or b""
        self._left -= len(piece)
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Close the file too."""
        self._file.close()
        super().close()


def _document(source: str, body: dict[str, str]) -> Document | HolaError:
    if "\x00" in body["text"]:
        return DocumentInvalid(f"{source} is binary (it has NUL characters)", source=source)
    made = read_text(body["text"], source)
    if not made.blocks:
        return DocumentInvalid(f"{source} has no text", source=source)
    return replace(made, title=printable(body["title"])[:MAX_TITLE])


def _end(file: BinaryIO, *, durable: bool) -> None:
    file.flush()
    if durable:
        os.fsync(file.fileno())
    file.close()


def _changed(folder: Path) -> float:
    """When something was written last; now, where nobody can say."""
    with contextlib.suppress(OSError):
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    return time.time()


def _too_much(field: str, most: str) -> InvalidRequest:
    return InvalidRequest(f"one ingest has at most {most}: send the rest in another", field=field)


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"the spool of ingests cannot be used: {error}") from error
