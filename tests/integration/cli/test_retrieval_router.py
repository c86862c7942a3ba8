"""Documents at a router from the command line: sent, found, listed, followed, deleted."""

from __future__ import annotations

import gzip
import json
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.support.library import records

pytestmark = pytest.mark.timeout(120)

Hola = Callable[..., Result]


@dataclass
class Desk:
    """A router process (gRPC wants one event loop in a process) and where its collections lie."""

    address: str
    data: Path


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("router")
    settings = {
        "BUS": "memory:",
        "DATA_DIR": str(folder / "data"),
        "EMBEDDER": "none",
        "LISTEN": "127.0.0.1:0",
        "LOG_FORMAT": "json",
        "MODEL": "scripted:seed=7",
        "MODELS_DIR": str(folder),
    }
    env = environment(repo_root) | {f"HOLA_{name}": value for name, value in settings.items()}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "hola_router"], env=env, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while "serving" not in (text := (folder / "log").read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        address = next(
            found["address"] for found in map(json.loads, text.splitlines()) if "address" in found
        )
        yield Desk(address, folder / "data")
    finally:
        process.kill()
        process.wait()


def environment(repo_root: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLA_")}
    roots = [str(repo_root / root) for root in ("shared", "services", "bench")]
    return {**kept, "PYTHONPATH": os.pathsep.join(roots)}


@pytest.fixture
def desk(router: Desk) -> Desk:
    """The router without any collection."""
    shutil.rmtree(router.data / "default", ignore_errors=True)
    return router


@pytest.fixture
def hola(run: Any, desk: Desk, tmp_path: Path) -> Hola:
    """Runs a command against the router; what would be local is nowhere."""
    env = {"HOLA_DATA_DIR": str(tmp_path / "none"), "HOLA_MODELS_DIR": str(tmp_path / "none")}
    at = ["--router", desk.address]
    return lambda *arguments, **more: run(*arguments, *at, env=env, **more)


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "tea.md").write_text("# Tea\n\nGreen tea is steeped at eighty degrees.")
    (folder / "milk.txt.gz").write_bytes(gzip.compress(b"Packed milk keeps for a week."))
    (folder / "facts.jsonl").write_bytes(records(3))
    return folder


def test_a_folder_is_sent_once_and_found(hola: Hola, handbook: Path, tmp_path: Path) -> None:
    first = hola("ingest", str(handbook), "-c", "work")
    assert first.exit_code == 0, first.output
    assert first.stdout == "work: 5 added, 0 unchanged, 0 failed; 5 chunks\n"
    again = json.loads(hola("ingest", str(handbook), "-c", "work", "--json").stdout)
    assert (again["added"], again["unchanged"], again["state"]) == (0, 5, "done")
    found = hola("search", "packed milk", "-c", "work")
    assert f"1. {handbook}/milk.txt.gz" in found.stdout
    assert "bm25 alone" in found.stderr
    (tea,) = json.loads(hola("search", "green", "-c", "work", "--json").stdout)["passages"]
    assert (tea["source"], tea["title"]) == (f"{handbook}/tea.md", "Tea")
    assert not (tmp_path / "none").exists()


def test_standard_input_and_prune(hola: Hola, handbook: Path) -> None:
    piped = hola("ingest", "-", "--source", "note", input="cocoa")
    assert piped.stdout == "default: 1 added, 0 unchanged, 0 failed; 1 chunks\n"
    hola("ingest", str(handbook))
    (handbook / "tea.md").unlink()
    pruned = hola("ingest", str(handbook), "--prune")
    assert pruned.stdout == "default: 0 added, 4 unchanged, 1 pruned, 0 failed; 4 chunks\n"
    sources = json.loads(hola("collections", "show", "default", "--json").stdout)["sources"]
    assert "note" in sources
    assert f"{handbook}/tea.md" not in sources


def test_broken_files_cost_a_line_each_and_exit_code_1(hola: Hola, handbook: Path) -> None:
    hola("ingest", str(handbook))
    (handbook / "tea.md").write_bytes(b"\xff\xfe\xfd")
    (handbook / "gone.md").symlink_to(handbook / "nowhere")
    (handbook / "facts.jsonl").write_bytes(records(2))
    result = hola("ingest", str(handbook), "nowhere", "--prune")
    assert result.exit_code == 1
    assert result.stderr.count("failed:") == 3
    assert "0 added, 3 unchanged, 3 failed" in result.stdout
    kept = json.loads(hola("search", "green tea", "--json").stdout)
    assert kept["passages"], "what was there before is kept"
    as_json = json.loads(hola("ingest", str(handbook), "--json").stdout)
    assert as_json["failed_total"] == len(as_json["failed"]) == 2
    assert {one["reason"] for one in as_json["failed"]} == {"DOCUMENT_INVALID"}


def test_background_jobs_are_listed_and_followed(hola: Hola, handbook: Path) -> None:
    queued = hola("ingest", str(handbook), "--background", "--json")
    job = json.loads(queued.stdout)
    assert (queued.exit_code, job["state"], job["files"]) == (0, "queued", 3)
    done = hola("collections", "watch", job["job_id"])
    assert done.stdout == "default: 5 added, 0 unchanged, 0 failed; 5 chunks\n"
    (handbook / "bad.txt").write_bytes(b"\x00")
    followed = hola("ingest", str(handbook), "--background", "--watch")
    assert followed.exit_code == 1
    assert "bad.txt is binary" in followed.stderr
    said = hola("ingest", str(handbook), "--background").stdout
    assert "4 files are queued as ingest" in said
    jobs = json.loads(hola("collections", "jobs", "--json").stdout)
    assert job["job_id"] in {one["job_id"] for one in jobs}
    assert job["job_id"] in hola("collections", "jobs").stdout
    again = json.loads(hola("collections", "watch", job["job_id"], "--json").stdout)
    assert (again["state"], again["added"]) == ("done", 5)


def test_collections_are_listed_shown_and_deleted(hola: Hola, handbook: Path, desk: Desk) -> None:
    assert f"no collection at {desk.address}" in hola("collections", "list").stdout
    hola("ingest", str(handbook), "-c", "work")
    (listed,) = json.loads(hola("collections", "list", "--json").stdout)
    assert (listed["name"], listed["documents"]) == ("work", 5)
    assert "BM25 alone" in hola("collections", "list").stdout
    assert str(handbook) in hola("collections", "show", "work").stdout
    gone = hola("collections", "delete", "work", "--source", f"{handbook}/facts.jsonl")
    assert gone.stdout == "work: 3 deleted, 3 chunks\n"
    unsure = hola("collections", "delete", "work")
    assert (unsure.exit_code, "--yes" in unsure.stderr) == (2, True)
    assert hola("collections", "delete", "work", "--yes").stdout == "deleted work\n"
    assert hola("collections", "show", "work").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["search", "x", "-c", "nowhere"], 3, "no collection 'nowhere'"),
        (["search", "x", "--mode", "dense", "-c", "nowhere"], 3, "nowhere"),
        (["search", "x", "--tenant", "acme"], 2, "--tenant and --router"),
        (["ingest", "x", "--data-dir", "d"], 2, "--data-dir and --router"),
        (["ingest", "x", "--embedder", "none"], 2, "--embedder and --router"),
        (["ingest", "x", "-c", "Bad Name"], 2, "collection name"),
        (["ingest", "x", "--chunk-chars", "100", "--overlap-chars", "90"], 2, "overlap"),
        (["collections", "delete", "nowhere", "--yes"], 3, "nowhere"),
        (["collections", "watch", "never"], 3, "no ingest 'never'"),
        (["collections", "watch", "a b"], 2, "request_id"),
    ],
)
def test_what_is_wrong_is_one_line(hola: Hola, arguments: list[str], code: int, words: str) -> None:
    result = hola(*arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_router_is_needed_for_some_and_must_be_there(run: Any) -> None:
    for arguments in (
        ["ingest", "x", "--background"],
        ["ingest", "x", "--watch"],
        ["collections", "jobs"],
        ["collections", "watch", "job"],
    ):
        result = run(*arguments)
        assert (result.exit_code, "--router" in result.stderr) == (2, True), arguments
    nobody = run("search", "x", "--router", "127.0.0.1:1", env={"HOLA_CONNECT_TIMEOUT_S": "0.2"})
    assert (nobody.exit_code, nobody.stderr.count("\n")) == (6, 1)
    assert run("search", "x", "--router", "no address").exit_code == 2


def test_a_terminal_sees_a_bar(desk: Desk, handbook: Path, repo_root: Path) -> None:
    env = environment(repo_root) | {"COLUMNS": "100"}
    (handbook / "more.jsonl").write_bytes(records(2000))
    code = "from hola_cli.main import main; main()"
    command = [sys.executable, "-c", code, "ingest", str(handbook), "--router", desk.address]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*command, "--background", "--watch"],
        env=env,
        stderr=theirs,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
        assert process.stdout is not None
        assert "2005 added" in process.stdout.read()
        assert process.wait(30) == 0
    os.close(ours)
    assert b"sending" in shown
    assert b"4/4" in shown


def _read(terminal: int) -> bytes:
    """What was written to it; empty at its end."""
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way to say that nobody has it open any more
        return b""
