"""hola.json: what it records is checked, and everything wrong with it is a typed error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hola.errors import ArtifactCorrupt, ArtifactInvalid, TokenizerMismatch
from hola.models.family import (
    Family,
    TierSource,
    load_family,
    verify_digests,
    write_manifest,
)
from tests.support.family_files import write_family, write_tier

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return write_family(tmp_path)


def reload_edited(family: Family, edit: Edit) -> Family:
    file = family.path / "hola.json"
    document = json.loads(file.read_text())
    edit(document)
    file.write_text(json.dumps(document))
    return load_family(family.path)


def test_what_was_written_is_read(family: Family) -> None:
    again = load_family(family.path)
    assert again == family
    assert [tier.name for tier in family.tiers] == ["draft", "target"]
    assert (family.target.parameters, family.target.quantization) == (7, "int8")
    assert (family.context_length, family.license) == (512, "Apache-2.0")
    assert family.tier("draft") is family.ladder[0]
    assert family.target.bytes == sum(file.stat().st_size for file in family.target.path.iterdir())
    verify_digests(family)


def test_unknown_tier_names_the_known(family: Family) -> None:
    with pytest.raises(ArtifactInvalid, match="draft, target"):
        family.tier("middle")


def test_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    one, two = write_family(tmp_path / "a"), write_family(tmp_path / "b")
    assert one.target.digest == two.target.digest
    assert one.target.digest != one.ladder[0].digest


def test_progress_names_every_file(family: Family) -> None:
    seen: dict[str, int] = {}
    verify_digests(family.target, progress=seen.__setitem__)
    assert seen.keys() == {f"target/{name}" for name in family.target.files}
    assert sum(seen.values()) == family.target.bytes


def test_changed_byte(family: Family) -> None:
    file = family.target.path / "model.onnx.data"
    data = bytearray(file.read_bytes())
    data[17] ^= 1
    file.write_bytes(data)
    load_family(family.path)  # sizes are right
    with pytest.raises(ArtifactCorrupt) as caught:
        verify_digests(family)
    assert caught.value.details["file"] == "target/model.onnx.data"
    assert caught.value.details["expected"] == family.target.files["model.onnx.data"].sha256
    assert caught.value.details["got"] != caught.value.details["expected"]


def test_truncated_file(family: Family) -> None:
    file = family.ladder[0].path / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1])
    for check in (lambda: load_family(family.path), lambda: verify_digests(family)):
        with pytest.raises(ArtifactCorrupt) as caught:
            check()
        assert caught.value.details == {
            "file": "draft/model.onnx",
            "expected": "108 bytes",
            "got": "107 bytes",
        }


def test_missing_file(family: Family) -> None:
    (family.target.path / "tokenizer.json").unlink()
    with pytest.raises(ArtifactCorrupt, match=r"target/tokenizer\.json is missing"):
        load_family(family.path)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"[" * 100_000])
def test_garbage_manifest(family: Family, data: bytes) -> None:
    (family.path / "hola.json").write_bytes(data)
    with pytest.raises(ArtifactInvalid):
        load_family(family.path)


def test_oversized_manifest(family: Family) -> None:
    (family.path / "hola.json").write_bytes(b" " * (4 * 2**20 + 1))
    with pytest.raises(ArtifactInvalid, match="larger"):
        load_family(family.path)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ArtifactInvalid, match=r"no hola\.json"):
        load_family(tmp_path)


WRONG_FIELDS: dict[str, tuple[str, object, str]] = {
    "other format": ("format", 2, "format"),
    "no format": ("format", None, "format"),
    "name with slash": ("name", "../demo", "name"),
    "name not text": ("name", 3, "name"),
    "no target": ("target", "", "target"),
    "target not described": ("target", "giant", "giant"),
    "ladder not a list": ("ladder", "draft", "ladder"),
    "ladder of numbers": ("ladder", [1], "ladder"),
    "ladder names the target": ("ladder", ["target"], "twice"),
    "tier twice": ("ladder", ["draft", "draft"], "twice"),
    "ladder not described": ("ladder", ["tiny"], "tiny"),
    "no tiers": ("tiers", {}, "tiers"),
    "tiers a list": ("tiers", ["draft"], "tiers"),
    "short digest": ("tokenizer_sha256", "abc", "tokenizer_sha256"),
    "licence not text": ("license", 7, "license"),
    "description not text": ("description", [], "description"),
    "tier not an object": ("tiers.target", 5, "target"),
    "files not an object": ("tiers.target.files", [], "files"),
    "no files": ("tiers.target.files", {}, "no files"),
    "parameters not a number": ("tiers.target.parameters", "many", "parameters"),
    "path climbs": ("tiers.target.path", "../target", "leaves"),
    "path climbs inside": ("tiers.target.path", "draft/../../x", "leaves"),
    "path absolute": ("tiers.target.path", "/etc", "leaves"),
    "path empty": ("tiers.target.path", "", "path"),
    "path with NUL": ("tiers.target.path", "a\0b", "path"),
    "path of Windows": ("tiers.target.path", "..\\x", "path"),
    "file not an object": ("tiers.target.files.model~onnx", 5, "model.onnx"),
    "negative size": ("tiers.target.files.model~onnx.bytes", -1, "bytes"),
    "size a truth value": ("tiers.target.files.model~onnx.bytes", True, "bytes"),
    "digest not hex": ("tiers.target.files.model~onnx.sha256", "z" * 64, "sha256"),
}


@pytest.mark.parametrize("case", WRONG_FIELDS)
def test_wrong_field(family: Family, case: str) -> None:
    keys, value, said = WRONG_FIELDS[case]

    def edit(document: dict[str, Any]) -> None:
        *path, last = keys.split(".")
        section = document
        for key in path:
            section = section[key.replace("~", ".")]
        section[last.replace("~", ".")] = value

    with pytest.raises(ArtifactInvalid) as caught:
        reload_edited(family, edit)
    assert said in caught.value.message


@pytest.mark.parametrize("name", ["../target/model.onnx", "/etc/passwd", "a//b", "./model.onnx"])
def test_file_name_that_leaves_the_folder(family: Family, name: str) -> None:
    def edit(document: dict[str, Any]) -> None:
        files = document["tiers"]["target"]["files"]
        files[name] = files.pop("model.onnx")

    with pytest.raises(ArtifactInvalid, match="leaves"):
        reload_edited(family, edit)


@pytest.mark.parametrize(
    "name", ["genai_config.json", "tokenizer.json", "model.onnx", "model.onnx.data"]
)
def test_what_decides_the_output_needs_a_digest(family: Family, name: str) -> None:
    with pytest.raises(ArtifactInvalid) as caught:
        reload_edited(family, lambda document: document["tiers"]["target"]["files"].pop(name))
    assert name in caught.value.message


def test_tiers_with_different_tokenizers(tmp_path: Path) -> None:
    write_tier(tmp_path / "draft", merges=10)
    write_tier(tmp_path / "target")
    with pytest.raises(TokenizerMismatch) as caught:
        write_manifest(
            tmp_path,
            name="mixed",
            target=TierSource(name="target", path="target"),
            ladder=[TierSource(name="draft", path="draft")],
        )
    assert caught.value.details["tier"] == "draft"
    assert caught.value.details["expected"] != caught.value.details["got"]


def test_tokenizer_that_is_not_the_recorded_one(family: Family) -> None:
    with pytest.raises(TokenizerMismatch):
        reload_edited(family, lambda document: document.update(tokenizer_sha256="0" * 64))
