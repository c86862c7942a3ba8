"""Adding a model: from a genai directory and from a checkpoint, all or nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hola.engines import load_engine
from hola.engines.tokenizer import load_tokenizer
from hola.errors import ArtifactInvalid, InvalidRequest, TokenizerMismatch
from hola.models.family import verify_digests
from hola.models.prompt import render_chat
from hola.models.store import ModelStore
from hola.types import ChatMessage
from tests.support.tiny_models import write_checkpoint, write_tokenizer

pytestmark = pytest.mark.torch


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def left_behind(store: ModelStore) -> list[str]:
    return sorted(path.name for path in store.roots[-1].glob("*"))


def test_genai_directories_become_a_family(store: ModelStore, genai_directory: Path) -> None:
    steps: list[str] = []
    source = str(genai_directory)
    family = store.add("mine", source, drafts=[source, source], progress=steps.append)
    assert [tier.name for tier in family.tiers] == ["draft-1", "draft-2", "target"]
    assert left_behind(store) == ["mine"]
    assert store.get("mine") == family
    verify_digests(family)
    assert "taking model.onnx" in steps
    assert load_engine(family.target.path).open(8).forward([3, 4]).shape == (2, 320)


def test_checkpoint_is_converted(
    store: ModelStore, checkpoint: Path, genai_directory: Path
) -> None:
    """In a process of its own, to the same graph as the builder gives in ours."""
    steps: list[str] = []
    family = store.add("mine", str(checkpoint), precision="int8", progress=steps.append)
    assert family.target.quantization == "int8"
    assert family.target.parameters == 2 * (64 * 96 * 3 + 64 * 64 * 3 + 64 * 2) + 320 * 64 * 2 + 64
    assert any("converting llama" in step for step in steps)
    tokens = load_tokenizer(family.target.path).encode("Hello")
    ours = load_engine(family.target.path, threads=1).open(16).forward(tokens)
    theirs = load_engine(genai_directory, threads=1).open(16).forward(tokens)
    assert ours.tobytes() == theirs.tobytes()
    prompt = render_chat(family, [ChatMessage(role="user", content="Hi")])
    assert prompt == "<s><user>Hi</s><assistant>"


def test_tiers_with_different_tokenizers(
    store: ModelStore, genai_directory: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(genai_directory, tmp_path / "other")
    write_tokenizer(other, merges=3)
    with pytest.raises(TokenizerMismatch, match="draft-1"):
        store.add("mine", str(genai_directory), drafts=[str(other)])
    assert left_behind(store) == []


def test_architecture_that_the_builder_does_not_know(store: ModelStore, tmp_path: Path) -> None:
    source = tmp_path / "strange"
    write_checkpoint(source)
    config = json.loads((source / "config.json").read_text())
    config["architectures"] = ["StrangeForCausalLM"]
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactInvalid, match="not currently supported"):
        store.add("mine", str(source))
    assert left_behind(store) == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65, "a b"])
def test_senseless_names(store: ModelStore, genai_directory: Path, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        store.add(name, str(genai_directory))
    assert caught.value.details["field"] == "name"


def test_taken_name(store: ModelStore, genai_directory: Path) -> None:
    store.add("mine", str(genai_directory))
    with pytest.raises(InvalidRequest, match="already"):
        store.add("mine", str(genai_directory))
    assert left_behind(store) == ["mine"]


def test_sources_that_are_none(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in (str(tmp_path / "empty"), str(tmp_path / "absent"), "no-such-thing", ""):
        with pytest.raises(ArtifactInvalid):
            store.add("mine", source)
    assert left_behind(store) == []


def test_hub_that_cannot_be_reached(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ArtifactInvalid, match="hola-test/absent cannot be downloaded"):
        store.add("mine", "hola-test/absent")
    assert left_behind(store) == []


def test_offline_a_hub_is_not_asked(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, offline=True)
    with pytest.raises(ArtifactInvalid, match="HOLA_OFFLINE=1"):
        store.add("mine", "hola-test/absent")
    assert left_behind(store) == []


def test_damaged_source(store: ModelStore, genai_directory: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(genai_directory, tmp_path / "damaged")
    (damaged / "model.onnx.data").write_bytes(b"")
    with pytest.raises(ArtifactInvalid):
        store.add("mine", str(damaged))
    assert left_behind(store) == []


def test_root_that_cannot_be_written(genai_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ArtifactInvalid, match="cannot be written"):
        ModelStore(tmp_path / "file").add("mine", str(genai_directory))
