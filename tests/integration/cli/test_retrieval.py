"""Documents from the command line: in, found, listed, copied, pruned, out again."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from functools import partial
from pathlib import Path

import pytest

from hola.models.store import ModelStore
from hola.retrieval.add_embedder import add_embedder
from tests.support.documents import pdf
from tests.support.encoders import write_encoder


@pytest.fixture
def hola(run, tmp_path):
    """Runs a command on a data folder and a models folder of its own."""
    env = {"HOLA_DATA_DIR": str(tmp_path / "data"), "HOLA_MODELS_DIR": str(tmp_path / "models")}
    return lambda *arguments, **more: run(*arguments, env=env, **more)


@pytest.fixture
def handbook(tmp_path) -> Path:
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "tea.md").write_text("# Tea\n\nGreen tea is steeped at eighty degrees.")
    (folder / "page.html").write_text("<title>Coffee</title><p>Espresso needs pressure.")
    (folder / "scan.pdf").write_bytes(pdf("Water", "Water boils at one hundred degrees"))
    rows = [{"id": number, "text": f"fact {number}"} for number in range(3)]
    (folder / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_folder_is_ingested_once_and_found(hola, handbook):
    first = hola("ingest", str(handbook), "-c", "work")
    assert first.exit_code == 0, first.output
    assert first.stdout == "work: 6 added, 0 unchanged, 0 failed; 7 chunks\n"
    again = hola("ingest", str(handbook), "-c", "work")
    assert again.stdout == "work: 0 added, 6 unchanged, 0 failed; 7 chunks\n"
    found = hola("search", "boiling water", "-c", "work", "-k", "1")
    assert f"1. {handbook}/scan.pdf, page 2" in found.stdout
    assert "bm25 alone" in found.stderr
    (tea,) = json.loads(hola("search", "green", "-c", "work", "--json").stdout)["passages"]
    assert (tea["source"], tea["title"]) == (f"{handbook}/tea.md", "Tea")
    assert hola("search", "zeppelin", "-c", "work").stdout == "nothing found\n"


def test_broken_files_cost_a_line_each_and_exit_code_1(hola, handbook):
    (handbook / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    with (handbook / "facts.jsonl").open("a") as file:
        file.write("no record\n")
    result = hola("ingest", str(handbook), str(handbook / "nowhere"), "-c", "work")
    assert result.exit_code == 1
    assert "6 added" in result.stdout
    assert "3 failed" in result.stdout
    as_json = json.loads(hola("ingest", str(handbook), "-c", "work", "--json").stdout)
    assert as_json["unchanged"] == 6
    assert {entry["reason"] for entry in as_json["failed"]} == {"DOCUMENT_INVALID"}
    assert len(as_json["failed"]) == 2


def test_pruning_deletes_what_is_gone_and_nothing_else(hola, handbook, tmp_path):
    other = tmp_path / "handbook2.md"
    other.write_text("stays")
    hola("ingest", str(handbook), str(other), "-c", "work")
    (handbook / "tea.md").unlink()
    (handbook / "facts.jsonl").write_text('{"id": 1, "text": "fact 1"}\n')
    result = hola("ingest", str(handbook), "-c", "work", "--prune")
    assert result.stdout == "work: 0 added, 3 unchanged, 3 pruned, 0 failed; 4 chunks\n"
    left = json.loads(hola("collections", "show", "work", "--json").stdout)["sources"]
    names = ["facts.jsonl#1", "page.html", "scan.pdf"]
    assert left == [*(f"{handbook}/{name}" for name in names), str(other)]


def test_nothing_is_pruned_when_a_file_failed(hola, handbook):
    hola("ingest", str(handbook), "-c", "work")
    (handbook / "tea.md").write_bytes(b"\xff")
    hola("ingest", str(handbook), "-c", "work", "--prune")
    found = json.loads(hola("search", "green tea", "-c", "work", "--json").stdout)
    assert found["passages"], "what was there before is kept"


def test_a_file_that_became_json_lines_keeps_its_records_when_pruned(hola, tmp_path):
    path = tmp_path / "notes"
    path.write_text('{"id": 1, "text": "green tea"}\n')
    hola("ingest", str(path))
    result = hola("ingest", str(path), "--format", "jsonl", "--prune")
    assert "1 added, 0 unchanged, 1 pruned" in result.stdout
    sources = json.loads(hola("collections", "show", "default", "--json").stdout)["sources"]
    assert sources == [f"{path}#1"]


def test_standard_input(hola):
    page = "<title>T</title><p>warm tea"
    result = hola("ingest", "-", "--format", "html", "--source", "example.com", input=page)
    assert result.stdout == "default: 1 added, 0 unchanged, 0 failed; 1 chunks\n"
    (passage,) = json.loads(hola("search", "tea", "--json").stdout)["passages"]
    assert (passage["source"], passage["title"]) == ("example.com", "T")


def test_collections_are_listed_shown_and_deleted(hola, handbook):
    assert "no collection" in hola("collections", "list").stdout
    hola("ingest", str(handbook), "-c", "work")
    hola("ingest", str(handbook / "tea.md"), "-c", "work", "--tenant", "other")
    (listed,) = json.loads(hola("collections", "list", "--json").stdout)
    assert (listed["name"], listed["documents"]) == ("work", 6)
    assert "BM25 alone" in hola("collections", "list").stdout
    assert str(handbook) in hola("collections", "show", "work").stdout
    gone = hola("collections", "delete", "work", "--source", f"{handbook}/facts.jsonl")
    assert gone.stdout == "work: 3 deleted, 3 chunks\n"
    unsure = hola("collections", "delete", "work")
    assert (unsure.exit_code, "--yes" in unsure.stderr) == (2, True)
    assert hola("collections", "delete", "work", "--yes").stdout == "deleted work\n"
    assert hola("collections", "show", "work").exit_code == 3
    assert hola("collections", "show", "work", "--tenant", "other").exit_code == 0


@pytest.mark.torch
def test_with_an_embedder_search_is_hybrid_and_copies_change_it(hola, handbook, tmp_path):
    source = write_encoder(tmp_path / "source")
    store = ModelStore(tmp_path / "models")
    for name in ("minilm", "second"):
        precision = {"minilm": "int8", "second": "fp32"}[name]
        add_embedder(store, name, str(source), precision=precision, progress=lambda _: None)
    assert hola("ingest", str(handbook), "-c", "work").exit_code == 0
    found = json.loads(hola("search", "green tea", "-c", "work", "--json").stdout)
    assert (found["mode"], found["note"]) == ("hybrid", "")
    assert found["passages"][0]["dense"] is not None
    words = json.loads(hola("search", "tea", "-c", "work", "--mode", "bm25", "--json").stdout)
    assert {passage["dense"] for passage in words["passages"]} == {None}
    refused = hola("ingest", str(handbook), "-c", "work", "--embedder", "second")
    assert (refused.exit_code, "collections copy" in refused.stderr) == (4, True)
    copied = hola("collections", "copy", "work", "new", "--reembed", "--embedder", "second")
    assert "second@" in copied.stdout
    assert hola("ingest", str(handbook), "-c", "new", "--embedder", "second").exit_code == 0
    there = tmp_path / "elsewhere"
    assert hola("collections", "copy", "work", "work", "--to-data-dir", str(there)).exit_code == 0
    moved = hola("search", "green tea", "-c", "work", "--data-dir", str(there), "--json")
    assert json.loads(moved.stdout)["mode"] == "hybrid"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["search", "x", "-c", "nowhere"], 3),
        (["search", "x", "-c", "../etc"], 2),
        (["ingest", "x", "-c", "Bad Name"], 2),
        (["ingest", "x", "y", "--source", "s"], 2),
        (["ingest", "x", "--chunk-chars", "100", "--overlap-chars", "90"], 2),
        (["collections", "delete", "nowhere", "--yes"], 3),
        (["collections", "copy", "nowhere", "x"], 3),
    ],
)
def test_what_is_wrong_is_one_line(hola, arguments, code):
    result = hola(*arguments)
    assert result.exit_code == code, result.output
    assert result.stderr.count("\n") == 1


def test_more_standard_input_than_a_document_may_have_is_an_error(hola):
    result = hola("ingest", "-", "--max-mb", "1", input="x" * (2**20 + 5))
    assert result.exit_code == 1
    assert "--max-mb allows more" in result.stderr
    lines = '{"text": "one"}\n' * 80_000
    many = hola("ingest", "-", "--max-mb", "1", "--format", "jsonl", input=lines)
    assert many.stdout == "default: 80000 added, 0 unchanged, 0 failed; 80000 chunks\n"


def test_an_interrupt_ends_the_wait_for_standard_input(tmp_path, repo_root):
    roots = [str(repo_root / root) for root in ("shared", "services", "bench")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(roots), "HOLA_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-c", "from hola_cli.main import main; main()", "ingest", "-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A test run in the background may ignore the signal, and what it starts would too.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, env=env, preexec_fn=heard, **pipes) as process:
        process.stdin.write(b"some text")
        process.stdin.flush()
        try:
            while _unread(process.stdin.fileno()):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            process.wait(60)  # standard input stays open
            assert process.returncode == 130
        finally:
            process.kill()


def _unread(pipe: int) -> int:
    """Bytes in the pipe that nobody has read."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0)))[0]
