"""The store: finds families along its path, survives broken ones, and notices changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hola.errors import ArtifactCorrupt, ArtifactInvalid, UnknownModel
from hola.models.family import verify_digests
from hola.models.store import ModelStore, default_models_dirs
from tests.support.family_files import write_family


def test_unknown_model_names_the_known(tmp_path: Path) -> None:
    write_family(tmp_path, "one")
    write_family(tmp_path, "two")
    with pytest.raises(UnknownModel) as caught:
        ModelStore(tmp_path).get("three")
    assert caught.value.details == {"model": "three", "known": "one, two"}


@pytest.mark.parametrize("name", ["", "..", "../one", "one/../one", "/", "one\0", "ONE"])
def test_names_are_never_paths(tmp_path: Path, name: str) -> None:
    write_family(tmp_path / "models", "one")
    with pytest.raises(UnknownModel):
        ModelStore(tmp_path / "models").get(name)


def test_empty_and_absent_roots(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, tmp_path / "absent")
    assert store.list() == ()
    with pytest.raises(UnknownModel, match="known: none"):
        store.get("demo")


def test_first_root_wins(tmp_path: Path) -> None:
    first = write_family(tmp_path / "a", "demo")
    write_family(tmp_path / "b", "demo")
    other = write_family(tmp_path / "b", "other")
    store = ModelStore(tmp_path / "a", tmp_path / "b")
    assert store.names() == ("demo", "other")
    assert [family.path for family in store.list()] == [first.path, other.path]


def test_a_broken_family_does_not_hide_the_others(tmp_path: Path) -> None:
    write_family(tmp_path, "good")
    bad = write_family(tmp_path, "bad")
    (bad.target.path / "model.onnx").unlink()
    store = ModelStore(tmp_path)
    assert [family.name for family in store.list()] == ["good"]
    assert store.names() == ("bad", "good")
    with pytest.raises(ArtifactCorrupt):
        store.get("bad")


def test_renamed_folder_is_refused(tmp_path: Path) -> None:
    write_family(tmp_path, "one").path.rename(tmp_path / "two")
    with pytest.raises(ArtifactInvalid, match="called one"):
        ModelStore(tmp_path).get("two")


def test_read_once_until_the_manifest_changes(tmp_path: Path) -> None:
    folder = write_family(tmp_path).path
    store = ModelStore(tmp_path)
    family = store.get("tiny")
    assert store.get("tiny") is family
    manifest = folder / "hola.json"
    manifest.write_text(manifest.read_text().replace("for tests", "changed"))
    os.utime(manifest, ns=(1, 1))
    assert store.get("tiny").description == "changed"


def test_default_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert Path("models") not in default_models_dirs()
    assert default_models_dirs()[-1] == tmp_path / "data" / "hola" / "models"
    (tmp_path / "models").mkdir()
    assert default_models_dirs()[0] == Path("models")
    assert default_models_dirs(tmp_path / "mine") == (tmp_path / "mine",)


def test_checkout_is_listed_once(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo_root)
    resolved = [folder.resolve() for folder in default_models_dirs()]
    assert len(set(resolved)) == len(resolved)


def test_verified_family_from_the_store(tmp_path: Path) -> None:
    write_family(tmp_path)
    verify_digests(ModelStore(tmp_path).get("tiny"))
