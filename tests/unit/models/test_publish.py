"""Publication: all at once, repeatable, in a new family or over what was there."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hola.compression.report import Report, write_report
from hola.errors import ArtifactInvalid, Fenced, InvalidRequest, NoDiskSpace, TokenizerMismatch
from hola.models.family import load_family, verify_digests
from hola.models.manifest import MANIFEST_FILE, Tier
from hola.models.publish import KEPT_ARTIFACTS, Publication, publish
from hola.models.store import ModelStore
from tests.support.family_files import write_family, write_tier


def built(folder: Path, weights: bytes = b"w", **tier: Any) -> Path:
    """A model directory with a report."""
    shutil.rmtree(folder, ignore_errors=True)
    write_tier(folder, **tier)
    (folder / "model.onnx.data").write_bytes(weights)
    report = Report(
        source="tiny/target",
        parameters=5,
        bytes=9,
        overhead_bytes=1,
        bits_per_weight=3.25,
        original_bytes=90,
        calibration_sha256="ab" * 32,
    )
    write_report(report, folder / "report.json")
    return folder


def put(
    root: Path,
    place: Path,
    name: str,
    tier: str = "target",
    base: str = "",
    last_look: Callable[[], None] = lambda: None,
) -> Tier:
    store = ModelStore(root)
    publication = Publication(
        name=name,
        tier=tier,
        base=store.get(base) if base else None,
        source="tiny/target",
        source_sha256="cd" * 32,
        plan={"bits_per_weight": 3.25},
        license="MIT",
    )
    return publish(store, place, publication, last_look)


def left_in(folder: Path) -> list[str]:
    """Names of all that is in a folder."""
    return sorted(each.name for each in folder.iterdir())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_family(tmp_path / "models")
    return tmp_path / "models"


def test_a_new_family_has_the_other_tiers_and_the_provenance(root: Path, tmp_path: Path):
    tier = put(root, built(tmp_path / "out"), "small", base="tiny")
    family = load_family(root / "small")
    verify_digests(family)
    assert [each.name for each in family.tiers] == ["draft", "target"]
    assert tier.quantization == "lobi 3.25 bits"
    assert tier.path.name == tier.digest
    made = tier.provenance
    assert made is not None
    assert (made.source, made.license, made.calibration_sha256) == ("tiny/target", "MIT", "ab" * 32)
    assert made.tokenizer_sha256 == family.tokenizer_sha256
    assert "report.json" not in tier.files
    assert left_in(root) == [".publish.lock", "small", "tiny"]


def test_a_family_of_one_artifact(root: Path, tmp_path: Path):
    put(root, built(tmp_path / "out"), "alone")
    family = load_family(root / "alone")
    assert [each.name for each in family.tiers] == ["target"]
    assert family.license == "MIT"


def test_a_tier_is_replaced_and_knows_its_checkpoint(root: Path, tmp_path: Path):
    before = load_family(root / "tiny")
    for weights in (b"one", b"two"):
        put(root, built(tmp_path / "out", weights), "tiny")
    family = load_family(root / "tiny")
    verify_digests(family)
    assert family.target.digest != before.target.digest
    assert family.target.checkpoint == root / "tiny/target"
    assert family.ladder == before.ladder


def test_a_new_tier_joins_the_ladder_by_size(root: Path, tmp_path: Path):
    put(root, built(tmp_path / "out", b"w" * 10**6), "tiny", tier="large")
    put(root, built(tmp_path / "out", b""), "tiny", tier="small")
    assert [tier.name for tier in load_family(root / "tiny").ladder] == ["small", "draft", "large"]


def test_the_same_artifact_again_changes_nothing(root: Path, tmp_path: Path):
    first = put(root, built(tmp_path / "out"), "tiny")
    manifest = (root / "tiny" / MANIFEST_FILE).read_text()
    second = put(root, built(tmp_path / "out"), "tiny")
    assert first.digest == second.digest
    assert json.loads(manifest) == json.loads((root / "tiny" / MANIFEST_FILE).read_text())


def test_old_artifacts_go(root: Path, tmp_path: Path):
    for number in range(KEPT_ARTIFACTS + 4):
        put(root, built(tmp_path / "out", bytes([number])), "tiny")
    assert len(list((root / "tiny/artifacts").iterdir())) == KEPT_ARTIFACTS + 1
    verify_digests(load_family(root / "tiny"))


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_the_last_look_comes_when_all_is_copied_and_can_stop_it(
    root: Path, tmp_path: Path, name: str
):
    place = built(tmp_path / "out")
    before = (root / "tiny" / MANIFEST_FILE).read_bytes()

    def lost() -> None:
        copies = [file.parent for file in root.rglob("report.json")]
        assert [sorted(file.name for file in each.iterdir()) for each in copies] == [left_in(place)]
        shutil.rmtree(place)  # nothing of it is read any more
        raise Fenced("another worker has the job")

    with pytest.raises(Fenced):
        put(root, place, name, base="tiny", last_look=lost)
    assert (root / "tiny" / MANIFEST_FILE).read_bytes() == before
    assert not list(root.rglob("report.json"))
    assert not list(root.rglob("*.part"))
    assert not (root / "small").exists()


def test_after_the_last_look_nothing_of_the_input_is_read(root: Path, tmp_path: Path):
    for name in ("tiny", "small"):
        place = built(tmp_path / "out")
        put(root, place, name, base="tiny", last_look=lambda place=place: shutil.rmtree(place))
        verify_digests(load_family(root / name))


def test_what_killed_publications_left_is_removed(root: Path, tmp_path: Path):
    left = [root / "tiny/artifacts/.0123456789abcdef.77.part", root / ".small.77.part"]
    for part in left:
        part.mkdir(parents=True)
        (part / "model.onnx.data").write_bytes(b"half")
    for name in ("tiny", "small"):
        put(root, built(tmp_path / "out"), name, base="tiny")
    assert [part.exists() for part in left] == [False, False]


def test_another_tokenizer_is_refused_and_nothing_changes(root: Path, tmp_path: Path):
    manifest = (root / "tiny" / MANIFEST_FILE).read_bytes()
    with pytest.raises(TokenizerMismatch):
        put(root, built(tmp_path / "out", merges=3), "tiny")
    with pytest.raises(TokenizerMismatch):
        put(root, built(tmp_path / "out", merges=3), "new", base="tiny")
    assert (root / "tiny" / MANIFEST_FILE).read_bytes() == manifest
    assert left_in(root) == [".publish.lock", "tiny"]


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 65])
def test_bad_names(root: Path, tmp_path: Path, name: str):
    with pytest.raises(InvalidRequest):
        put(root, built(tmp_path / "out"), name)
    with pytest.raises(InvalidRequest):
        put(root, built(tmp_path / "out"), "tiny", tier=name)


@pytest.mark.parametrize("spoil", ["missing", "garbage"])
def test_no_report_no_publication(root: Path, tmp_path: Path, spoil: str):
    place = built(tmp_path / "out")
    if spoil == "missing":
        (place / "report.json").unlink()
    else:
        (place / "report.json").write_text("[]")
    with pytest.raises(ArtifactInvalid):
        put(root, place, "tiny")


def test_a_store_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(ArtifactInvalid, match="cannot be written"):
        put(tmp_path / "models", built(tmp_path / "out"), "new")


@pytest.mark.parametrize("name", ["tiny", "new"])
def test_a_disk_that_fills_up_is_named_and_nothing_changes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    place, before = built(tmp_path / "out"), (root / "tiny" / MANIFEST_FILE).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(NoDiskSpace, match=f"while {name} was written.*are free now") as failed:
        put(root, place, name)
    assert int(failed.value.details["available_bytes"]) > 0
    assert (root / "tiny" / MANIFEST_FILE).read_bytes() == before
    assert ModelStore(root).names() == ("tiny",)


@pytest.mark.parametrize(
    "provenance",
    [3, {}, {"plan": []}, {"plan": {}, "report": {}}, {"plan": {}, "report": 1, "source": 2}],
)
def test_a_bad_provenance_is_an_invalid_manifest(root: Path, provenance: object):
    file = root / "tiny" / MANIFEST_FILE
    document = json.loads(file.read_text())
    document["tiers"]["target"]["provenance"] = provenance
    file.write_text(json.dumps(document))
    with pytest.raises(ArtifactInvalid):
        load_family(root / "tiny")


@pytest.mark.parametrize("checkpoint", ["../x", "/etc", 3])
def test_a_checkpoint_outside_the_family(root: Path, checkpoint: object):
    file = root / "tiny" / MANIFEST_FILE
    document = json.loads(file.read_text())
    document["tiers"]["target"]["checkpoint"] = checkpoint
    file.write_text(json.dumps(document))
    with pytest.raises(ArtifactInvalid):
        load_family(root / "tiny")
