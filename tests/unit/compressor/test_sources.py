"""What a name means: a family first, then a directory where paths are allowed, then a hub id."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hola.compression.plan import Objective, Plan
from hola.errors import ArtifactInvalid, InvalidRequest, UnknownModel
from hola.models.store import ModelStore
from hola_compressor.sources import Source, Sources
from tests.support.compression import compression_job, write_source_family


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: `checkpoint`, and one called as the family `tiny` is."""
    family = write_source_family(tmp_path / "store")
    for name in ("checkpoint", "tiny"):
        shutil.copytree(family.target.path, tmp_path / "here" / name)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def sources(here: Path) -> Sources:
    """As in the process of the person who gives the names."""
    return Sources(store=ModelStore(here.parent / "store"), hub=True, paths=True)


@pytest.mark.parametrize(
    "name", ["checkpoint", "./checkpoint/", "checkpoint/.", "../here/checkpoint"]
)
def test_a_directory_however_it_is_written(sources: Sources, here: Path, name: str) -> None:
    found = sources.find(name)
    assert (found.checkpoint, found.title) == (here / "checkpoint", "checkpoint")
    assert sources.known(name)
    assert sources.called(name) == "checkpoint"


def test_the_working_directory(sources: Sources, here: Path) -> None:
    os.chdir("checkpoint")
    assert sources.called(".") == "checkpoint"
    assert sources.find(".").checkpoint == here / "checkpoint"


def test_a_family_comes_before_a_directory(sources: Sources) -> None:
    assert sources.find("tiny").base == sources.store.get("tiny")
    assert sources.target("tiny") == sources.store.get("tiny").target.path
    assert sources.find("./tiny").base is None


@pytest.mark.parametrize(
    ("name", "family"), [("checkpoint", None), ("./tiny", None), ("tiny", "tiny")]
)
def test_a_drafts_target_is_the_same_before_and_after_the_passes(
    sources: Sources, here: Path, name: str, family: str | None
) -> None:
    plan = Plan(target_bytes=9, objective=Objective.DRAFT, draft_for=name)
    job, source = compression_job(plan=plan), sources.find("tiny")
    local = sources.local_plan(job, here)
    place = here / name if family is None else sources.store.get(family).target.path
    assert local.draft_for == str(place)
    base = sources.publication(job, source).base
    assert (base.name if base else None) == family


@pytest.mark.parametrize("name", ["./chekpoint", "chekpoint/", "~nobody-here/x", "a/b/c", "/x\0"])
def test_a_directory_that_is_not_there(sources: Sources, name: str) -> None:
    assert not sources.known(name)
    with pytest.raises(InvalidRequest, match="there is no directory"):
        sources.find(name)
    with pytest.raises(InvalidRequest, match="there is no directory"):
        sources.target(name)
    with pytest.raises(InvalidRequest, match="never a path"):
        replace(sources, paths=False).find(name)


def test_a_name_of_nothing(sources: Sources) -> None:
    with pytest.raises(UnknownModel, match="known: tiny"):
        sources.find("nothing")
    with pytest.raises(UnknownModel, match="known: tiny"):
        replace(sources, paths=False).target("checkpoint")


def no_hub(hub_id: str, progress: object, *, offline: bool) -> Path:
    raise ArtifactInvalid(f"{hub_id} cannot be downloaded, offline {offline}")


def test_a_typing_error_behind_a_directory_that_is_there(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hola_compressor.sources.download_checkpoint", no_hub)
    assert not sources.known("checkpoint/typo")
    with pytest.raises(ArtifactInvalid, match="the directory checkpoint has no typo, and as a hub"):
        sources.find("checkpoint/typo")
    with pytest.raises(ArtifactInvalid, match=r"^org/typo cannot be downloaded, offline False$"):
        sources.find("org/typo")
    service = Sources(store=ModelStore(Path("../store"), offline=True), hub=True)
    with pytest.raises(ArtifactInvalid, match=r"^checkpoint/typo cannot .* offline True$"):
        service.find("checkpoint/typo")


def test_a_hub_id_is_called_by_its_name_and_not_by_its_snapshot(
    sources: Sources, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = here / "checkpoint"
    monkeypatch.setattr("hola_compressor.sources.download_checkpoint", lambda *_, **__: snapshot)
    assert sources.find("org/name") == Source(checkpoint=snapshot, title="org/name", tier="")
    assert sources.called("org/name") == "name"
