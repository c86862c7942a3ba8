"""genai_config.json: what is read from it, and that nonsense is a typed error naming the key."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from hola.engines.decoder_config import read_decoder_config
from hola.errors import ArtifactInvalid

CONFIG: dict[str, Any] = {
    "model": {
        "type": "llama",
        "vocab_size": 300,
        "context_length": 513,
        "eos_token_id": [2, 7],
        "decoder": {
            "filename": "model.onnx",
            "head_size": 16,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "inputs": {
                "input_ids": "input_ids",
                "attention_mask": "attention_mask",
                "past_key_names": "past.%d.key",
                "past_value_names": "past.%d.value",
            },
            "outputs": {
                "logits": "logits",
                "present_key_names": "present.%d.key",
                "present_value_names": "present.%d.value",
            },
        },
    }
}


def write(folder: Path, keys: str = "", value: object = None) -> Path:
    """CONFIG with the value under dotted `keys` replaced, and a graph file beside it."""
    config = copy.deepcopy(CONFIG)
    if keys:
        *path, last = keys.split(".")
        section = config
        for key in path:
            section = section[key]
        section[last] = value
    (folder / "genai_config.json").write_text(json.dumps(config))
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "model.onnx.data").write_bytes(b"weights")
    return folder


def test_what_is_read(tmp_path: Path) -> None:
    config = read_decoder_config(write(tmp_path))
    assert config.context_length == 512  # kept even: widths are
    assert config.eos_token_ids == (2, 7)
    assert config.weight_bytes == len(b"graph") + len(b"weights")
    assert config.past_names == ("past.0.key", "past.0.value", "past.1.key", "past.1.value")
    assert config.present_names[2] == "present.1.key"
    assert config.position_ids == "position_ids"
    assert config.window_rows == 2


def test_one_end_token(tmp_path: Path) -> None:
    assert read_decoder_config(write(tmp_path, "model.eos_token_id", 5)).eos_token_ids == (5,)


def test_window_sets_the_fewest_rows(tmp_path: Path) -> None:
    window = {"window_size": 128, "slide_key_value_cache": False, "layers": [0]}
    folder = write(tmp_path, "model.decoder.sliding_window", window)
    assert read_decoder_config(folder).window_rows == 128


def test_long_rope_stays_below_its_switch(tmp_path: Path) -> None:
    write(tmp_path)
    document = json.loads((tmp_path / "genai_config.json").read_text())
    document["model"].update(type="phi3", context_length=131072)
    (tmp_path / "genai_config.json").write_text(json.dumps(document))
    assert read_decoder_config(tmp_path).context_length == 4096


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        ("model", None, "model"),
        ("model.vocab_size", 0, "vocab_size"),
        ("model.vocab_size", True, "vocab_size"),
        ("model.context_length", "512", "context_length"),
        ("model.context_length", 1, "context_length"),
        ("model.eos_token_id", "</s>", "eos_token_id"),
        ("model.eos_token_id", [-1], "eos_token_id"),
        ("model.encoder", {}, "encoder"),
        ("model.decoder", [], "decoder"),
        ("model.decoder.pipeline", [], "pipeline"),
        ("model.decoder.filename", "../model.onnx", "filename"),
        ("model.decoder.filename", "/etc/passwd", "filename"),
        ("model.decoder.filename", "other.onnx", "other.onnx"),
        ("model.decoder.num_hidden_layers", -2, "num_hidden_layers"),
        ("model.decoder.num_key_value_heads", None, "num_key_value_heads"),
        ("model.decoder.head_size", 1.5, "head_size"),
        ("model.decoder.inputs.past_key_names", "past.key", "%d"),
        ("model.decoder.inputs.past_value_names", "%d%d", "%d"),
        ("model.decoder.inputs.input_ids", "", "input_ids"),
        ("model.decoder.outputs.logits", None, "logits"),
        ("model.decoder.sliding_window", {"slide_key_value_cache": True}, "rolled back"),
        ("model.decoder.sliding_window", {"slide_key_value_cache": False}, "window_size"),
    ],
)
def test_nonsense_is_named(tmp_path: Path, keys: str, value: object, said: str) -> None:
    with pytest.raises(ArtifactInvalid) as caught:
        read_decoder_config(write(tmp_path, keys, value))
    assert said in caught.value.message


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_unreadable_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "genai_config.json").write_bytes(data)
    with pytest.raises(ArtifactInvalid):
        read_decoder_config(tmp_path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactInvalid, match=r"genai_config\.json"):
        read_decoder_config(tmp_path)
