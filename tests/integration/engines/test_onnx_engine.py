"""The onnxruntime engine's own promises: cache in place, memory accounted, clear refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hola.engines import load_engine
from hola.engines.onnx import OnnxEngine
from hola.engines.onnx_session import LARGEST_CHUNK, OnnxSession
from hola.errors import (
    ArtifactInvalid,
    ConfigError,
    EngineFailure,
    InvalidRequest,
    MemoryBudgetExceeded,
)
from tests.support.tiny_models import VOCAB_SIZE

pytestmark = pytest.mark.torch

ExportOf = Callable[[str, str], Path]
KV_BYTES = 2 * 2 * 2 * 16 * 4  # layers, key and value, heads, head size, fp32
WORKSPACE_BYTES = LARGEST_CHUNK * VOCAB_SIZE * 4
SENTINEL = 1234.5


@pytest.fixture
def folder(export_of: ExportOf) -> Path:
    return export_of("llama", "int8")


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A model directory that a test may damage."""
    return shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("cache"))


def caches(session: OnnxSession) -> list[np.ndarray]:
    """The memory itself behind each cache buffer."""
    return [buffer._numpy_obj for buffer in session._cache]


def test_info(folder: Path) -> None:
    info = load_engine(folder).info
    assert (info.vocab_size, info.context_length, info.eos_token_ids) == (VOCAB_SIZE, 512, (2,))
    assert info.kv_bytes_per_token == KV_BYTES
    files = ("model.onnx", "model.onnx.data")
    assert info.weight_bytes == sum((folder / name).stat().st_size for name in files)
    assert info.provider == "cpu"


def test_cache_is_written_in_place_and_nowhere_else(folder: Path) -> None:
    session = OnnxEngine(folder, threads=1).open(32)
    session.forward([5, 6, 7, 8])
    addresses = [buffer.data_ptr() for buffer in session._cache]
    for cache in caches(session):
        assert cache.ctypes.data in addresses
        assert cache[:, :, :4].any()
        cache[:, :, 4:] = SENTINEL
    before = [cache[:, :, :4].copy() for cache in caches(session)]
    session.forward([9, 10, 11])
    for cache, kept in zip(caches(session), before, strict=True):
        assert (cache[:, :, :4] == kept).all()  # what was there is not touched
        assert (cache[:, :, 4:8] != SENTINEL).any(axis=(0, 1, 3)).all()  # 3 tokens and the pad
        assert (cache[:, :, 8:] == SENTINEL).all()  # and nothing behind it
    session.truncate(2)
    session.forward([9, 10])
    assert [buffer.data_ptr() for buffer in session._cache] == addresses


def test_what_lies_behind_the_length_has_no_influence(folder: Path) -> None:
    engine = OnnxEngine(folder, threads=1)
    clean, dirty = engine.open(64), engine.open(64)
    for cache in caches(dirty):
        cache[:] = np.nan
    for block in ([3], [4, 5], [6, 7, 8], [9]):
        assert clean.forward(block).tobytes() == dirty.forward(block).tobytes()


def test_loading_beyond_the_budget_names_the_numbers(folder: Path) -> None:
    with pytest.raises(MemoryBudgetExceeded) as caught:
        load_engine(folder, memory_budget_bytes=1000)
    needed = WORKSPACE_BYTES + load_engine(folder).info.weight_bytes
    assert caught.value.details["needed_bytes"] == str(needed)
    assert caught.value.details["available_bytes"] == "1000"


def test_sessions_beyond_the_budget(folder: Path) -> None:
    held = load_engine(folder).info.weight_bytes + WORKSPACE_BYTES
    engine = load_engine(folder, memory_budget_bytes=held + 300 * KV_BYTES)
    first = engine.open(199)  # and one row for a throw-away token
    with pytest.raises(MemoryBudgetExceeded) as caught:
        engine.open(199)
    assert caught.value.details["needed_bytes"] == str(200 * KV_BYTES)
    assert caught.value.details["available_bytes"] == str(100 * KV_BYTES)
    first.close()
    first.close()
    engine.open(199).forward([4])


def test_closed_session_and_engine(folder: Path) -> None:
    engine = load_engine(folder)
    session, other = engine.open(8), engine.open(8)
    session.close()
    for call in (lambda: session.forward([4]), lambda: session.prefill([4])):
        with pytest.raises(EngineFailure, match="closed"):
            call()
    engine.close()
    with pytest.raises(EngineFailure, match="closed"):
        engine.open(8)
    assert other.forward([4]).shape == (1, VOCAB_SIZE)  # what is open goes on


@pytest.mark.parametrize("capacity", [0, -5])
def test_senseless_capacity(folder: Path, capacity: int) -> None:
    with pytest.raises(InvalidRequest, match="capacity"):
        load_engine(folder).open(capacity)


def test_senseless_settings(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="threads"):
        load_engine(folder, threads=0)
    with pytest.raises(ConfigError, match="provider"):
        load_engine(folder, provider="abacus")


def test_non_finite_logits_are_a_failure(folder: Path) -> None:
    session = OnnxEngine(folder, threads=1).open(16)
    session.forward([5, 6])
    for cache in caches(session):
        cache[:] = np.nan
    with pytest.raises(EngineFailure, match="non-finite"):
        session.forward([7])


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_graph(copied: Path, keep: int) -> None:
    graph = copied / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:keep])
    with pytest.raises(ArtifactInvalid):
        load_engine(copied)


@pytest.mark.parametrize("data", [None, b"short"])
def test_missing_or_short_weights(copied: Path, data: bytes | None) -> None:
    weights = copied / "model.onnx.data"
    if data is None:
        weights.unlink()
    else:
        weights.write_bytes(data)
    with pytest.raises(ArtifactInvalid, match=r"model\.onnx"):
        load_engine(copied)


def edit_config(folder: Path, **decoder: Any) -> None:
    file = folder / "genai_config.json"
    document = json.loads(file.read_text())
    document["model"]["decoder"].update(decoder)
    file.write_text(json.dumps(document))


def test_configuration_of_another_graph(copied: Path) -> None:
    edit_config(copied, num_hidden_layers=3)
    with pytest.raises(ArtifactInvalid, match=r"past_key_values\.2\.key"):
        load_engine(copied)
    edit_config(copied, num_hidden_layers=1)
    with pytest.raises(ArtifactInvalid, match=r"past_key_values\.1\.key is not supported"):
        load_engine(copied)


def test_wrong_vocabulary_size(copied: Path) -> None:
    file = copied / "genai_config.json"
    file.write_text(file.read_text().replace(f'"vocab_size": {VOCAB_SIZE}', '"vocab_size": 100'))
    with pytest.raises(ArtifactInvalid, match="vocab"):
        load_engine(copied)


def test_graph_that_appends_to_its_cache_is_refused(copied: Path) -> None:
    """Exports without GroupQueryAttention return past and new entries as a longer tensor."""
    import onnx
    from onnx import TensorProto, helper

    def tensor(name: str, shape: list[str | int], kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    cache: list[str | int] = [1, 2, "past", 16]
    names = [f"past_key_values.{layer}.{part}" for layer in (0, 1) for part in ("key", "value")]
    presents = [name.replace("past_key_values", "present") for name in names]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["ids", "last"], ["column"]),
        helper.make_node("Expand", ["column", "vocab"], ["logits"]),
        helper.make_node("Reshape", ["ids", "row"], ["rows"]),
        helper.make_node("Expand", ["rows", "heads"], ["new"]),
    ]
    nodes += [
        helper.make_node("Concat", [past, "new"], [present], axis=2)
        for past, present in zip(names, presents, strict=True)
    ]
    constants = {
        "last": [2],
        "vocab": [1, 1, VOCAB_SIZE],
        "row": [1, 1, -1, 1],
        "heads": [1, 2, 1, 16],
    }
    graph = helper.make_graph(
        nodes,
        "appending",
        [
            tensor("input_ids", [1, "width"], TensorProto.INT64),
            tensor("attention_mask", [1, "total"], TensorProto.INT64),
            *(tensor(name, cache) for name in names),
        ],
        [
            tensor("logits", [1, "width", VOCAB_SIZE]),
            *(tensor(name, [1, 2, "total", 16]) for name in presents),
        ],
        [
            helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
            for name, values in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, copied / "model.onnx")
    with pytest.raises(ArtifactInvalid, match="in place"):
        load_engine(copied)
