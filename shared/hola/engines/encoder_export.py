"""A sentence encoder's checkpoint directory made into the graph that OnnxEncoder runs."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hola.engines.bert_graph import build_bert, read_shape
from hola.engines.encoder import MODEL_FILE
from hola.engines.tokenizer import TOKENIZER_FILE, tokenizer_fingerprint
from hola.errors import ArtifactInvalid, InvalidRequest
from hola.extras import require

PRECISIONS = ("int8", "fp32")
_WEIGHTS = "model.safetensors"
_LONGEST = 8192
_FLOAT = 1  # onnx.TensorProto.FLOAT: the quantizer cannot infer types behind contrib operators


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFacts:
    """What a checkpoint says of itself: what to put before texts, where they are cut off."""

    max_tokens: int
    pooling: str
    query_prefix: str = ""
    passage_prefix: str = ""


def export_encoder(
    source: Path, destination: Path, *, precision: str, progress: Callable[[str], None]
) -> EncoderFacts:
    """Write `destination`/model.onnx and tokenizer.json from a sentence-transformers directory.

    int8: weights in 8 bits per output channel, activations per pass; a quarter of the size. Reads
    safetensors only and runs none of the checkpoint's code.
    Raises ArtifactInvalid, InvalidRequest (precision), MissingExtra.
    """
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise InvalidRequest(f"precision must be one of {known}", field="precision")
    facts = read_facts(source)
    tokenizer_fingerprint(source)  # refuses a tokenizer.json that is missing or malformed
    progress("reading weights")
    weights = _read_weights(source / _WEIGHTS)
    progress("building the graph")
    model = build_bert(weights, read_shape(_object(source / "config.json"), facts.pooling))
    onnx = require("onnx", "compress")
    if precision == "int8":
        progress("quantizing")
        _quantize(model, destination / MODEL_FILE)
    else:
        onnx.save(model, str(destination / MODEL_FILE))
    shutil.copyfile(source / TOKENIZER_FILE, destination / TOKENIZER_FILE)
    return facts


def read_facts(source: Path) -> EncoderFacts:
    """Read the sentence-transformers files; the usual values where there are none.

    Raises ArtifactInvalid for a pooling that is neither mean nor first token.
    """
    config = _object(source / "config.json")
    limits = [_LONGEST]
    for document, key in (
        (config, "max_position_embeddings"),
        (_optional(source / "sentence_bert_config.json"), "max_seq_length"),
    ):
        if isinstance(value := document.get(key), int) and value > 2:
            limits.append(value)
    pooling = _optional(source / "1_Pooling" / "config.json")
    chosen = {key for key, value in pooling.items() if key.startswith("pooling_mode") and value}
    names = {frozenset({"pooling_mode_cls_token"}): "cls", frozenset(): "mean"}
    names[frozenset({"pooling_mode_mean_tokens"})] = "mean"
    if frozenset(chosen) not in names:
        raise ArtifactInvalid(f"pooling {', '.join(sorted(chosen))} is not supported")
    prompts = _optional(source / "config_sentence_transformers.json").get("prompts") or {}
    return EncoderFacts(
        max_tokens=min(limits),
        pooling=names[frozenset(chosen)],
        query_prefix=str(prompts.get("query") or ""),
        passage_prefix=str(prompts.get("passage") or prompts.get("document") or ""),
    )


def _read_weights(file: Path) -> dict[str, Any]:
    reader = require("safetensors.numpy", "compress")
    if not file.is_file():
        raise ArtifactInvalid(f"{file.parent} has no {file.name}", path=file.parent)
    try:
        weights: dict[str, Any] = reader.load_file(str(file))
    except Exception as error:  # safetensors' own error derives from Exception alone
        raise ArtifactInvalid(f"{file} cannot be read: {error}") from error
    return weights


def _quantize(model: Any, file: Path) -> None:
    quantization = require("onnxruntime.quantization", "edge")
    logging.disable(logging.WARNING)  # it advises on the root logger to infer shapes first
    try:
        quantization.quantize_dynamic(
            model,
            str(file),
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gather"],
            extra_options={"DefaultTensorType": _FLOAT},
        )
    finally:
        logging.disable(logging.NOTSET)


def _object(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactInvalid(f"{file} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ArtifactInvalid(f"{file} is not an object")
    return document


def _optional(file: Path) -> dict[str, Any]:
    return _object(file) if file.is_file() else {}
