"""What a model needs before it is loaded: weights, workspace, and the KV cache of each session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hola.engines.decoder_config import read_decoder_config
from hola.engines.onnx import LOGITS_BYTES
from hola.engines.onnx_session import LARGEST_CHUNK

# Keys and values are kept as the graph computes: fp32 in graphs for CPUs, whatever the weights are.
_KV_BYTES = {"fp16": 2}
_KV_BYTES_ELSE = 4
# Python, gRPC, Redis client, onnxruntime and tokenizer of a service without its models, measured.
PROCESS_BYTES = 160 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """Memory of one engine, in bytes."""

    name: str
    weight_bytes: int
    workspace_bytes: int
    kv_bytes_per_token: int
    context_length: int

    @property
    def held_bytes(self) -> int:
        """What it holds without any session."""
        return self.weight_bytes + self.workspace_bytes

    def session_bytes(self, tokens: int) -> int:
        """The cache of a session of up to `tokens` tokens, at most its context."""
        rows = min(tokens + 1, self.context_length)  # one more for a throw-away token
        return rows * self.kv_bytes_per_token


def plan_engine(path: Path, *, quantization: str = "") -> EnginePlan:
    """Predict what loading `path` takes; nothing is loaded.

    `quantization` is the manifest's word for the weights. Raises ArtifactInvalid.
    """
    config = read_decoder_config(path)
    element = _KV_BYTES.get(quantization, _KV_BYTES_ELSE)
    return EnginePlan(
        name=path.name,
        weight_bytes=config.weight_bytes,
        workspace_bytes=LARGEST_CHUNK * config.vocab_size * LOGITS_BYTES,
        kv_bytes_per_token=2 * config.num_layers * config.num_kv_heads * config.head_size * element,
        context_length=config.context_length,
    )


def sessions_that_fit(engines: Sequence[EnginePlan], budget_bytes: int, tokens: int) -> int:
    """Sessions of `tokens` tokens with a cache in each engine; -1 when not even the weights fit."""
    left = budget_bytes - PROCESS_BYTES - sum(engine.held_bytes for engine in engines)
    if left < 0:
        return -1
    return left // max(1, sum(engine.session_bytes(tokens) for engine in engines))
