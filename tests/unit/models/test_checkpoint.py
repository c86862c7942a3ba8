"""Checkpoints: parameters counted from headers, pickles refused, the context kept honest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hola.errors import ArtifactCorrupt, ArtifactInvalid, HolaError, InvalidRequest, NoDiskSpace
from hola.models import checkpoint
from hola.models.checkpoint import (
    convert_checkpoint,
    count_parameters,
    keep_context_exact,
    weight_files,
)


def write_safetensors(file: Path, **shapes: list[int]) -> Path:
    """A file of float32 zeros, written byte by byte as the format says."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(at))
    return file


def test_a_second_copy_of_the_weights_does_not_count(tmp_path: Path) -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for shard in shards:
        write_safetensors(tmp_path / shard, w=[10, 10])
    write_safetensors(tmp_path / "consolidated.safetensors", w=[20, 10])
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [file.name for file in weight_files(tmp_path)] == shards
    assert count_parameters(tmp_path) == 200
    write_safetensors(tmp_path / "model.safetensors", w=[7])
    assert count_parameters(tmp_path) == 7


@pytest.mark.parametrize(
    "index", ["{", "[]", "{}", '{"weight_map": {"a": "../w"}}', '{"weight_map": {"a": "gone"}}']
)
def test_an_index_that_leads_nowhere(tmp_path: Path, index: str) -> None:
    write_safetensors(tmp_path / "consolidated.safetensors", w=[20, 10])
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ArtifactCorrupt):
        count_parameters(tmp_path)


def test_parameters_of_all_files(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model-1.safetensors", a=[3, 4], b=[5])
    write_safetensors(tmp_path / "model-2.safetensors", c=[2, 2, 2], scalar=[])
    assert count_parameters(tmp_path) == 12 + 5 + 8 + 1


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "x.pth", "y.ckpt"])
def test_pickled_weights_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ArtifactInvalid, match="pickled") as caught:
        count_parameters(tmp_path)
    assert caught.value.details["file"] == name


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ArtifactInvalid, match="no safetensors"):
        count_parameters(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05",
        (2**40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{}" + b"surplus",
        (9).to_bytes(8, "little") + b'{"a": 1} ',
        (4).to_bytes(8, "little") + b"\xff\xfe{}",
    ],
)
def test_garbage_weights(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ArtifactInvalid, match="not a whole"):
        count_parameters(tmp_path)


def test_truncated_weights(tmp_path: Path) -> None:
    file = write_safetensors(tmp_path / "model.safetensors", a=[8])
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArtifactInvalid, match="not a whole"):
        count_parameters(tmp_path)


def test_unknown_precision(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="int4, int8"):
        convert_checkpoint(tmp_path, tmp_path / "out", precision="int3", progress=print)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_garbage_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ArtifactInvalid, match=r"config\.json"):
        convert_checkpoint(tmp_path, tmp_path / "out", precision="int8", progress=print)


LONG_ROPE = {"rope_type": "longrope", "original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    ("config", "decoder", "kept"),
    [
        ({}, {}, 32768),
        ({"sliding_window": None}, {}, 32768),
        ({"sliding_window": 4096}, {}, 4096),  # not in the graph: right only up to the window
        ({"sliding_window": 4096, "use_sliding_window": False}, {}, 32768),
        ({"sliding_window": 4096}, {"sliding_window": {"window_size": 4096}}, 32768),
        ({"sliding_window": 10**6}, {}, 32768),
        ({"rope_scaling": LONG_ROPE}, {}, 4096),
        ({"rope_parameters": LONG_ROPE}, {}, 4096),
        ({"original_max_position_embeddings": 4096}, {}, 32768),
        (
            {"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 8192},
            {},
            8192,
        ),
    ],
)
def test_context_ends_where_the_graph_stops_being_the_model(
    tmp_path: Path, config: dict[str, Any], decoder: dict[str, Any], kept: int
) -> None:
    file = tmp_path / "genai_config.json"
    file.write_text(json.dumps({"model": {"context_length": 32768, "decoder": decoder}}))
    keep_context_exact(config, file)
    assert json.loads(file.read_text())["model"]["context_length"] == kept


@pytest.mark.parametrize(
    ("says", "kind"),
    [("OSError: [Errno 28] No space left on device", NoDiskSpace), ("no idea", ArtifactInvalid)],
)
def test_the_end_of_the_builder_is_told_from_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, kind: type[HolaError]
) -> None:
    (tmp_path / "fails.py").write_text(f"raise SystemExit({says!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(checkpoint, "_BUILDER", "fails")
    with pytest.raises(kind, match="converted"):
        checkpoint._run_builder(tmp_path, tmp_path / "not/there", "int8", tmp_path, lambda _: None)
