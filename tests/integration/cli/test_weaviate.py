"""The retrieval commands on a Weaviate server, and collections moved there and back."""

from __future__ import annotations

import json

import pytest

from hola.models.store import ModelStore
from hola.retrieval.add_embedder import add_embedder
from tests.support.encoders import write_encoder
from tests.support.weaviate import API_KEY, weaviate_beside


@pytest.fixture(scope="module")
def server():
    with weaviate_beside() as running:
        yield running


@pytest.fixture
def hola(run, server, tmp_path):
    """Runs a command with HOLA_STORE naming the server, in a tenant of the test's own."""
    env = {
        "HOLA_STORE": server.url,
        "HOLA_DATA_DIR": str(tmp_path / "data"),
        "HOLA_MODELS_DIR": str(tmp_path / "models"),
        "HOLA_EMBEDDER": "none",
    }

    def hola(*arguments: str, **more: str):
        tenant = ["--tenant", tmp_path.name] if arguments[0] != "doctor" else []
        return run(*arguments, *tenant, env=env | more)

    yield hola
    server.keys = False


@pytest.fixture
def handbook(tmp_path):
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "tea.md").write_text("# Tea\n\nGreen tea is steeped at eighty degrees.")
    (folder / "coffee.md").write_text("# Coffee\n\nEspresso needs pressure.")
    return folder


def sources(result) -> list[str]:
    return [passage["source"] for passage in json.loads(result.stdout)["passages"]]


def test_the_setting_moves_every_command(hola, handbook, tmp_path, server):
    nothing = hola("collections", "list")
    assert f"in {server.url}; `hola ingest` makes one" in nothing.stdout.replace("\n", "")
    first = hola("ingest", str(handbook), "-c", "work")
    assert first.stdout == "work: 2 added, 0 unchanged, 0 failed; 2 chunks\n", first.output
    again = hola("ingest", str(handbook), "-c", "work")
    assert again.stdout == "work: 0 added, 2 unchanged, 0 failed; 2 chunks\n"
    assert sources(hola("search", "steeping", "-c", "work", "--json")) == [f"{handbook}/tea.md"]
    (listed,) = json.loads(hola("collections", "list", "--json").stdout)
    assert (listed["name"], listed["documents"], listed["chunks"]) == ("work", 2, 2)
    (handbook / "tea.md").unlink()
    pruned = hola("ingest", str(handbook), "-c", "work", "--prune")
    assert pruned.stdout == "work: 0 added, 1 unchanged, 1 pruned, 0 failed; 1 chunks\n"
    assert hola("collections", "delete", "work", "--yes").exit_code == 0
    assert hola("collections", "show", "work").exit_code == 3
    assert not (tmp_path / "data").exists()


@pytest.mark.torch
def test_a_collection_moves_to_weaviate_and_back_with_its_vectors(hola, handbook, tmp_path, server):
    source = write_encoder(tmp_path / "source")
    add_embedder(ModelStore(tmp_path / "models"), "minilm", str(source), progress=lambda _: None)
    with_embedder = {"HOLA_EMBEDDER": "minilm"}
    here = ["--store", "sqlite"]
    assert hola("ingest", str(handbook), "-c", "work", *here, **with_embedder).exit_code == 0
    asked = ["search", "green tea", "-c", "work", "--json"]
    before = json.loads(hola(*asked, *here, **with_embedder).stdout)
    gone = hola("collections", "copy", "work", "work", *here, "--to-store", server.url)
    assert "work: 2 documents, 2 chunks, minilm@" in gone.stdout, gone.output
    there = json.loads(hola(*asked, **with_embedder).stdout)
    assert there["mode"] == before["mode"] == "hybrid"
    assert [p["source"] for p in there["passages"]] == [p["source"] for p in before["passages"]]
    for one, other in zip(there["passages"], before["passages"], strict=True):
        assert one["dense"] == pytest.approx(other["dense"], abs=1e-3)
        assert one["text"] == other["text"]
    folder = str(tmp_path / "elsewhere")
    back = hola("collections", "copy", "work", "back", "--to-data-dir", folder)
    assert "back: 2 documents, 2 chunks, minilm@" in back.stdout, back.output
    asked[3] = "back"
    after = json.loads(hola(*asked, "--data-dir", folder, **with_embedder).stdout)
    assert after["passages"] == before["passages"]


def test_a_folder_of_a_store_that_has_none_is_refused(hola, server):
    result = hola("collections", "list", "--store", server.url, "--data-dir", "/tmp/x")
    assert (result.exit_code, "data folder" in result.stderr) == (2, True)


def test_a_server_that_is_gone_is_one_line(hola):
    result = hola("collections", "list", "--store", "weaviate://127.0.0.1:9?grpc=10")
    assert result.exit_code == 6
    assert result.stderr.count("\n") == 1
    assert "cannot be reached: start it there, or correct HOLA_STORE" in result.stderr


def test_doctor_says_whether_the_store_answers(hola, server, tmp_path):
    def finding(**env: str) -> dict[str, str]:
        found = json.loads(hola("doctor", "--json", **env).stdout)["findings"]
        return next(one for one in found if one["check"] == "document store")

    assert finding()["status"] == "ok"
    assert server.url in finding()["found"]
    gone = finding(HOLA_STORE="weaviate://127.0.0.1:9?grpc=10")
    assert (gone["status"], "cannot be reached" in gone["found"]) == ("broken", True)
    assert finding(HOLA_STORE="nonsense")["status"] == "broken"
    server.keys = True
    assert "wants an API key" in finding()["found"]
    key = tmp_path / "key"
    key.write_text(API_KEY)
    assert finding(HOLA_STORE_KEY_FILE=str(key))["status"] == "ok"
    assert finding(HOLA_STORE="sqlite")["status"] == "ok"
