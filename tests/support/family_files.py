"""Model families on disk without weights worth loading, for what never runs them."""

from __future__ import annotations

import json
from pathlib import Path

from hola.models.family import Family, TierSource, write_manifest
from tests.support.tiny_models import write_tokenizer


def write_tier(folder: Path, *, context_length: int = 512, merges: int = 40) -> None:
    """A directory that looks like onnxruntime-genai's, with a few bytes for a graph."""
    folder.mkdir(parents=True)
    write_tokenizer(folder, merges=merges)
    (folder / "model.onnx").write_bytes(b"not a graph " * 9)
    (folder / "model.onnx.data").write_bytes(bytes(range(256)))
    config = {
        "model": {
            "type": "llama",
            "vocab_size": 320,
            "context_length": context_length,
            "eos_token_id": 2,
            "decoder": {
                "filename": "model.onnx",
                "head_size": 16,
                "num_hidden_layers": 2,
                "num_key_value_heads": 2,
                "inputs": {
                    "input_ids": "input_ids",
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
    (folder / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")


def write_family(root: Path, name: str = "tiny") -> Family:
    """A family of draft and target in `root`/`name`."""
    folder = root / name
    write_tier(folder / "draft", context_length=256)
    write_tier(folder / "target")
    return write_manifest(
        folder,
        name=name,
        target=TierSource(name="target", path="target", parameters=7, quantization="int8"),
        ladder=[TierSource(name="draft", path="draft")],
        license_name="Apache-2.0",
        description="for tests",
    )
