"""`hola models add`: a directory becomes a family that answers, or an error that says why not."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

from tests.support.tiny_models import exported


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("tiny"))


@pytest.mark.torch
def test_a_directory_with_a_draft_becomes_a_family_that_answers(run, tiny, tmp_path):
    added = run(
        "models", "add", "mine", str(tiny), "--draft", str(tiny), "--models-dir", str(tmp_path),
        "--json",
    )  # fmt: skip
    assert added.exit_code == 0, added.stderr
    facts = json.loads(added.stdout)
    assert [tier["name"] for tier in facts["tiers"]][-1] == "target"
    assert len(facts["tiers"]) == 2
    ask = ("generate", "--raw", "--model", "mine", "--models-dir", str(tmp_path), "-n", "12", "Hi")
    result = run(*ask, "--check-exact", "-k", "4")
    assert result.exit_code == 0, result.stderr
    assert "exact: yes" in result.stderr
    again = run("models", "add", "mine", str(tiny), "--models-dir", str(tmp_path))
    assert again.exit_code == 2
    assert "already" in again.stderr


@pytest.mark.parametrize(
    ("source", "code"), [("no-such-folder", 4), ("./also/not/there", 4), ("", 4)]
)
def test_a_source_that_is_not_there(run, tmp_path, source, code):
    result = run("models", "add", "mine", source, "--models-dir", str(tmp_path))
    assert result.exit_code == code, result.stderr
    assert result.stderr.startswith("error: ")
    assert not (tmp_path / "mine").exists()


def test_a_disk_that_fills_up(run, tmp_path, monkeypatch):
    (tmp_path / "genai_config.json").write_text("{}")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    models = tmp_path / "models"
    result = run("models", "add", "mine", str(tmp_path), "--models-dir", str(models))
    assert result.exit_code == 5, result.stderr
    assert "the disk filled up while mine was added" in result.stderr
    assert not list(models.iterdir())


def test_a_name_that_cannot_be(run, tmp_path):
    result = run("models", "add", "../up", str(tmp_path), "--models-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "name" in result.stderr
