"""`hola compress`: here and at a compressor; progress, interruption, errors and the report."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import hola_compressor.app
from tests.support.compression import write_source_family
from tests.support.compressor_main import CHILD
from tests.support.process import running_service

BUDGET = ("--target-size", "5KB")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Folders of the test's own, with the family `tiny`."""
    write_source_family(tmp_path / "models")
    return {
        "HOLA_MODELS_DIR": str(tmp_path / "models"),
        "HOLA_DATA_DIR": str(tmp_path / "data"),
        "HOLA_LOG_LEVEL": "error",
    }


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Work of this process is done by stand-in passes; gives a plan of three steps."""
    build = partial(hola_compressor.app.build, child=CHILD)
    monkeypatch.setattr(hola_compressor.app, "build", build)
    plan = tmp_path / "plan.yaml"
    plan.write_text("recover: {steps: 3}\ntarget-size: 1MB\n")
    return plan


def test_here_from_a_plan_with_the_budget_of_the_command(run: Any, env: Any, stand_ins: Path):
    done = run("compress", "tiny", *BUDGET, "--plan", str(stand_ins), env=env)
    assert done.exit_code == 0, done.output
    assert "tiny-lobi/target" in done.stdout
    assert "done" in done.stderr
    shown = run("models", "show", "tiny-lobi", "--json", env=env)
    assert json.loads(shown.stdout)["tiers"][-1]["quantization"] == "lobi 4.50 bits"
    report = run("models", "show", "tiny-lobi", "--report", "--json", env=env)
    assert json.loads(report.stdout)["bits_per_weight"] == 4.5


def test_a_directory_and_json_lines(run: Any, env: Any, stand_ins: Path, tmp_path: Path):
    source = str(tmp_path / "models/tiny/target")
    command = ("compress", source, *BUDGET, "--name", "mine", "--plan", str(stand_ins), "--json")
    done = run(*command, env=env)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["event"] == "submitted"
    assert lines[-1]["state"] == "done"
    assert lines[-1]["artifact"]["model"] == "mine"
    again = [json.loads(line) for line in run(*command, env=env).stdout.splitlines()]
    assert again[0]["job_id"] == lines[0]["job_id"], "the same command is the same job"
    assert again[-1]["artifact"] == lines[-1]["artifact"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, repo_root: Path, tmp_path: Path) -> Path:
    """A working directory with the directories `checkpoint`, `target` and `no name`."""
    monkeypatch.setenv("PYTHONPATH", str(repo_root))  # of the stand-ins
    for name in ("checkpoint", "target", "no name"):
        shutil.copytree(tmp_path / "models/tiny/target", tmp_path / "here" / name)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_directory_as_a_shell_completes_it(run: Any, env: Any, stand_ins: Path, here: Path):
    done = run("compress", "./checkpoint/", *BUDGET, "--plan", str(stand_ins), env=env)
    assert done.exit_code == 0, done.output
    assert "checkpoint-lobi/target" in done.stdout


def test_a_draft_for_a_directory_beside_this_one(run: Any, env: Any, stand_ins: Path, here: Path):
    command = ("compress", "tiny", *BUDGET, "--draft-for", "target", "--plan", str(stand_ins))
    done = run(*command, env=env)
    assert done.exit_code == 0, done.output
    assert "target-lobi/lobi" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("./chekpoint",), "there is no directory './chekpoint'"),
        (("chekpoint/",), "there is no directory 'chekpoint/'"),
        (("no name",), "--name FAMILY"),
        (("tiny", "--draft-for", "./chekpoint/"), "there is no directory './chekpoint/'"),
    ],
)
def test_directories_that_will_not_do(
    run: Any, env: Any, stand_ins: Path, here: Path, arguments: Any, text: str
):
    done = run("compress", *arguments, *BUDGET, env=env)
    assert text in done.stderr
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1


BAD = [
    ((), 2, "name a MODEL"),
    (("tiny",), 2, "is missing"),
    (("tiny", *BUDGET, "--bits", "4"), 2, "give one of"),
    (("tiny", "--target-size", "huge"), 2, "write 300MB"),
    (("tiny", "--device", "toaster"), 2, "known: jetson-nano"),
    (("tiny", *BUDGET, "--objective", "latency", "--draft-for", "nope"), 3, "no model"),
    (("nope", *BUDGET), 3, "known: tiny"),
    (("tiny", "--target-size", "10"), 2, "smallest artifact"),
    (("tiny", *BUDGET, "--plan", "/nothing.yaml"), 2, "cannot be read"),
    (("tiny", *BUDGET, "--calibration", "/nothing.txt"), 2, "cannot be read"),
    (("tiny", *BUDGET, "--tier", "x"), 4, "it has draft, target"),
    (("tiny", "--cancel", "--job", "x"), 2, "leave MODEL out"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), BAD)
def test_bad_input(run: Any, env: Any, stand_ins: Path, arguments: Any, code: int, text: str):
    done = run("compress", *arguments, env=env)
    assert text in done.stderr
    assert done.exit_code == code
    assert len(done.stderr.splitlines()) == 1


def test_reports_that_cannot_be_shown(run: Any, env: Any, stand_ins: Path, tmp_path: Path):
    assert run("compress", "tiny", *BUDGET, "--plan", str(stand_ins), env=env).exit_code == 0
    (tmp_path / "file").write_text("")
    unwritable = ("--report", "--out", str(tmp_path / "file"))
    for arguments, code, text in (
        (("tiny", "--report"), 3, "tiny has no report; tiers with one: none; `hola compress`"),
        (("tiny-lobi", "--report", "--tier", "draft"), 3, "tiers with one: target"),
        (("nothing", "--report"), 3, "known: tiny, tiny-lobi"),
        (("tiny-lobi", *unwritable), 2, "file cannot be written"),
        (("tiny-lobi", "--out", "x"), 2, "--out goes with --report"),
        (("tiny-lobi", "--tier", "x"), 2, "--tier goes with --report"),
    ):
        done = run("models", "show", *arguments, env=env)
        assert text in done.stderr
        assert done.exit_code == code
        assert len(done.stderr.splitlines()) == 1
    report = next(tmp_path.glob("models/tiny-lobi/artifacts/*/report.json"))
    report.write_text(report.read_text() + " ")
    changed = run("models", "show", "tiny-lobi", "--report", env=env)
    assert (changed.exit_code, "compress again" in changed.stderr) == (4, True)


def test_without_matplotlib_nothing_is_written(
    run: Any, env: Any, stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert run("compress", "tiny", *BUDGET, "--plan", str(stand_ins), env=env).exit_code == 0
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    show = ("models", "show", "tiny-lobi", "--report")
    done = run(*show, "--out", str(tmp_path / "out"), env=env)
    assert (done.exit_code, "hola-edge[compress]" in done.stderr) == (4, True)
    assert not (tmp_path / "out").exists()
    assert run(*show, "--json", env=env).exit_code == 0


async def test_at_a_compressor_elsewhere(run: Any, env: Any, stand_ins: Path, tmp_path: Path):
    address = f"unix://{tmp_path}/c.sock"
    places = {**env, "HOLA_LISTEN": address, "HOLA_BUS": "memory:", "HOLA_LOG_LEVEL": "info"}

    async def ask(*arguments: str) -> Any:
        command = ("compress", *arguments, "--compressor", address)
        return await asyncio.to_thread(run, *command, env=env)

    async with running_service("tests.support.compressor_main", **places) as service:
        await service.event("serving")
        long = "recover: {steps: 4000}\n"
        await asyncio.to_thread(stand_ins.write_text, long)
        named = ("tiny", *BUDGET, "--plan", str(stand_ins), "--job", "mine")
        sent = await ask(*named, "--no-watch")
        assert (sent.exit_code, sent.stdout.strip()) == (0, "mine"), sent.output
        assert "exists already" in (await ask(*named)).stderr
        ended = await ask("--job", "mine", "--cancel")
        assert ended.stdout.strip() == "cancelled"
        watched = await ask("--job", "mine")
        assert watched.exit_code == 130
        assert "was cancelled" in watched.stderr
        assert (await ask("--job", "nobodys")).exit_code == 3
        made = await ask("tiny", *BUDGET)
        assert f"in the store of {address}" in made.stdout
    away = await ask("--job", "mine", "--cancel")
    assert away.exit_code == 6
