"""What a genai_config.json says about a decoder graph, checked and typed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hola.errors import ArtifactInvalid

CONFIG_FILE = "genai_config.json"
_FEWEST_ROWS = 2
# LongRoPE graphs change to other position factors at this length, which turns every key cached
# before it stale: the text would depend on where a block began.
_ROPE_SWITCH = {"phi3": 4096, "phi3v": 4096, "phimoe": 4096, "phi3small": 8192}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """Names and sizes of a decoder graph; name patterns hold one %d for the layer.

    `window_rows` is the fewest cache rows the graph takes: its sliding-window layers evict only
    when their cache is full, so a cache with a row for every position never does.
    """

    graph: Path
    vocab_size: int
    context_length: int
    eos_token_ids: tuple[int, ...]
    num_layers: int
    num_kv_heads: int
    head_size: int
    window_rows: int
    input_ids: str
    attention_mask: str
    position_ids: str
    logits: str
    past_key: str
    past_value: str
    present_key: str
    present_value: str

    @property
    def past_names(self) -> tuple[str, ...]:
        """Cache inputs: key and value of layer 0, of layer 1, ..."""
        return self._each_layer(self.past_key, self.past_value)

    @property
    def present_names(self) -> tuple[str, ...]:
        """Cache outputs in the order of `past_names`."""
        return self._each_layer(self.present_key, self.present_value)

    @property
    def weight_bytes(self) -> int:
        """Size of the graph file and of the external data beside it."""
        beside = self.graph.parent.glob(f"{self.graph.name}*")
        return sum(file.stat().st_size for file in beside if file.is_file())

    def _each_layer(self, key: str, value: str) -> tuple[str, ...]:
        layers = map(str, range(self.num_layers))
        return tuple(name.replace("%d", layer) for layer in layers for name in (key, value))


def read_decoder_config(directory: Path) -> DecoderConfig:
    """Read `directory`/genai_config.json.

    Raises ArtifactInvalid saying which key is missing or malformed, or which feature of
    onnxruntime-genai this engine does not have (pipelines, encoders).
    """
    try:
        document = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactInvalid(
            f"{directory.name}/{CONFIG_FILE} cannot be read: {error}", path=directory
        ) from error
    fields = _Fields(document, directory.name)
    model = fields.section("model")
    decoder = model.section("decoder")
    if "pipeline" in decoder.values:
        raise decoder.invalid("pipelines are not supported: one graph per decoder")
    if "encoder" in model.values:
        raise model.invalid("encoder-decoder models are not supported")
    inputs, outputs = decoder.section("inputs"), decoder.section("outputs")
    return DecoderConfig(
        graph=_graph(directory, decoder.text("filename")),
        vocab_size=model.number("vocab_size"),
        context_length=_context_length(model),
        eos_token_ids=model.ids("eos_token_id"),
        num_layers=decoder.number("num_hidden_layers"),
        num_kv_heads=decoder.number("num_key_value_heads"),
        head_size=decoder.number("head_size"),
        window_rows=_window_rows(decoder),
        input_ids=inputs.text("input_ids"),
        attention_mask=inputs.text("attention_mask", "attention_mask"),
        position_ids=inputs.text("position_ids", "position_ids"),
        logits=outputs.text("logits"),
        past_key=inputs.pattern("past_key_names"),
        past_value=inputs.pattern("past_value_names"),
        present_key=outputs.pattern("present_key_names"),
        present_value=outputs.pattern("present_value_names"),
    )


def _context_length(model: _Fields) -> int:
    """The context, kept even and below the length where a model rescales its positions."""
    length = model.number("context_length", least=2)
    switch = _ROPE_SWITCH.get(str(model.values.get("type")), length)
    return min(length, switch) & ~1


def _window_rows(decoder: _Fields) -> int:
    if "sliding_window" not in decoder.values:
        return _FEWEST_ROWS
    window = decoder.section("sliding_window")
    if window.values.get("slide_key_value_cache", True):
        raise window.invalid("a cache that slides in the graph cannot be rolled back")
    return max(_FEWEST_ROWS, window.number("window_size"))


def _graph(directory: Path, filename: str) -> Path:
    if Path(filename).name != filename:
        raise ArtifactInvalid(
            f"{directory.name}/{CONFIG_FILE}: filename {filename!r} must be a plain file name",
            path=directory,
        )
    graph = directory / filename
    if not graph.is_file():
        raise ArtifactInvalid(f"{directory.name} has no {filename}", path=directory)
    return graph


class _Fields:
    """One object of the document; says the full key when a value is wrong."""

    def __init__(self, values: object, where: str) -> None:
        self._where = where
        if not isinstance(values, dict):
            raise self.invalid("must be an object")
        self.values: Mapping[str, Any] = values

    def invalid(self, what: str) -> ArtifactInvalid:
        return ArtifactInvalid(f"{CONFIG_FILE} of {self._where}: {what}")

    def section(self, key: str) -> _Fields:
        return _Fields(self.values.get(key), f"{self._where}: {key}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or not value:
            raise self.invalid(f"{key} must be a text, got {value!r}")
        return value

    def pattern(self, key: str) -> str:
        value = self.text(key)
        if value.count("%d") != 1:
            raise self.invalid(f"{key} {value!r} must hold one %d")
        return value

    def number(self, key: str, *, least: int = 1) -> int:
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.invalid(f"{key} must be a whole number >= {least}, got {value!r}")
        return value

    def ids(self, key: str) -> tuple[int, ...]:
        value = self.values.get(key, [])
        listed = value if isinstance(value, list) else [value]
        if not all(isinstance(id_, int) and id_ >= 0 for id_ in listed):
            raise self.invalid(f"{key} must be token ids, got {value!r}")
        return tuple(listed)
