"""The graph of a BERT-like text encoder with pooling, built from its weights; needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.errors import ArtifactInvalid
from hola.extras import require

Array = npt.NDArray[np.float32]

OPSET = 17
IR_VERSION = 10
CONTRIB = "com.microsoft"
# Names of activations in config.json that mean the exact (erf) GELU.
_GELU = {"gelu", "gelu_python"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape:
    """Sizes of the encoder; `pooling` is "mean" over the tokens or "cls", the first one's."""

    layers: int
    hidden: int
    heads: int
    epsilon: float
    pooling: str


@dataclass(slots=True)
class _Builder:
    """Nodes and initializers in the making."""

    helper: Any
    numpy_helper: Any
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)
    count: int = 0

    def weight(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add an initializer; its name."""
        self.weights.append(self.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], *, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; that output's name."""
        return self.nodes_of(kind, inputs, 1, domain=domain, **attributes)[0]

    def nodes_of(
        self, kind: str, inputs: list[str], outputs: int, *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs; their names."""
        self.count += 1
        names = [f"{kind.lower()}_{self.count}_{number}" for number in range(outputs)]
        self.nodes.append(
            self.helper.make_node(kind, inputs, names, domain=domain, name=names[0], **attributes)
        )
        return names


def read_shape(config: Mapping[str, Any], pooling: str) -> BertShape:
    """The sizes in a checkpoint's config.json. Raises ArtifactInvalid for what is not BERT-like."""
    kind = config.get("model_type")
    if kind != "bert":
        raise ArtifactInvalid(f"text encoders of model_type bert are supported, not {kind!r}")
    if config.get("hidden_act", "gelu") not in _GELU:
        raise ArtifactInvalid(f"activation {config['hidden_act']!r} is not supported")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ArtifactInvalid("only absolute position embeddings are supported")
    try:
        return BertShape(
            layers=int(config["num_hidden_layers"]),
            hidden=int(config["hidden_size"]),
            heads=int(config["num_attention_heads"]),
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
            pooling=pooling,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactInvalid(f"config.json lacks a size of the encoder: {error!r}") from error


def build_bert(weights: Mapping[str, Array], shape: BertShape) -> Any:
    """An onnx.ModelProto from token ids to vectors of length 1.

    Inputs `input_ids` and `attention_mask`, both (batch, sequence) int64, padding on the right;
    output `embedding`, (batch, hidden) float32. `weights` are named as in BertModel. Raises
    ArtifactInvalid for a missing or misshapen weight, MissingExtra.
    """
    onnx = require("onnx", "compress")
    helper = onnx.helper
    made = _Builder(helper, onnx.numpy_helper)
    take = _Taker(weights, shape)
    hidden = _embeddings(made, take, shape)
    mask32 = made.node("Cast", ["attention_mask"], to=onnx.TensorProto.INT32)
    for layer in range(shape.layers):
        hidden = _layer(made, take, shape, f"encoder.layer.{layer}", hidden, mask32)
    pooled = _pool(made, shape, hidden, onnx.TensorProto.FLOAT)
    made.nodes.append(
        helper.make_node("LpNormalization", [pooled], ["embedding"], axis=-1, p=2, name="unit")
    )
    ids = onnx.TensorProto.INT64
    graph = helper.make_graph(
        made.nodes,
        "bert",
        [
            helper.make_tensor_value_info(name, ids, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask")
        ],
        [
            helper.make_tensor_value_info(
                "embedding", onnx.TensorProto.FLOAT, ["batch", shape.hidden]
            )
        ],
        made.weights,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


class _Taker:
    """Weights by name, each checked for its shape."""

    def __init__(self, weights: Mapping[str, Array], shape: BertShape) -> None:
        self._weights = weights
        self._hidden = shape.hidden

    def __call__(self, name: str, *dimensions: int | None) -> Array:
        value = self._weights.get(name, self._weights.get(f"bert.{name}"))
        if value is None:
            raise ArtifactInvalid(f"the encoder has no weight {name}")
        wrong = len(value.shape) != len(dimensions) or any(
            wanted not in (None, got) for wanted, got in zip(dimensions, value.shape, strict=True)
        )
        if wrong:
            raise ArtifactInvalid(f"weight {name} has shape {value.shape}")
        return value.astype(np.float32)

    def linear(self, name: str, inputs: int | None, outputs: int | None) -> tuple[Array, Array]:
        """Weight as (inputs, outputs), and bias."""
        return self(f"{name}.weight", outputs, inputs).T, self(f"{name}.bias", outputs)


def _embeddings(made: _Builder, take: _Taker, shape: BertShape) -> str:
    words = made.weight("words", take("embeddings.word_embeddings.weight", None, shape.hidden))
    # Every token is of the first type: queries and passages are single sequences.
    kinds = take("embeddings.token_type_embeddings.weight", None, shape.hidden)[:1]
    places = take("embeddings.position_embeddings.weight", None, shape.hidden) + kinds
    zero, one = made.weight("zero", np.array([0])), made.weight("one", np.array([1]))
    size = made.node("Shape", ["input_ids"])
    length = made.node("Slice", [size, one, made.weight("two", np.array([2])), zero])
    position = made.node("Slice", [made.weight("places", places), zero, length, zero])
    summed = made.node("Add", [made.node("Gather", [words, "input_ids"]), position])
    return made.node(
        "LayerNormalization",
        [summed, *_norm(made, take, shape, "embeddings.LayerNorm")],
        axis=-1,
        epsilon=shape.epsilon,
    )


def _layer(
    made: _Builder, take: _Taker, shape: BertShape, name: str, hidden: str, mask: str
) -> str:
    """Self-attention and feed-forward, each added to its input and normalized after."""
    parts = [
        take.linear(f"{name}.attention.self.{part}", shape.hidden, shape.hidden)
        for part in ("query", "key", "value")
    ]
    packed = made.weight(f"{name}.qkv", np.concatenate([part[0] for part in parts], axis=1))
    bias = made.weight(f"{name}.qkv.bias", np.concatenate([part[1] for part in parts]))
    projected = made.node("Add", [made.node("MatMul", [hidden, packed]), bias])
    query, key, value = made.nodes_of("Split", [projected], 3, axis=-1)
    attended = made.node(
        "MultiHeadAttention",
        [query, key, value, "", mask],
        domain=CONTRIB,
        num_heads=shape.heads,
        scale=1 / math.sqrt(shape.hidden // shape.heads),
    )
    dense = take.linear(f"{name}.attention.output.dense", shape.hidden, shape.hidden)
    hidden = _residual(made, take, shape, f"{name}.attention.output", hidden, attended, dense)
    up, up_bias = take.linear(f"{name}.intermediate.dense", shape.hidden, None)
    widened = made.node("MatMul", [hidden, made.weight(f"{name}.up", up)])
    active = made.node(
        "BiasGelu", [widened, made.weight(f"{name}.up.bias", up_bias)], domain=CONTRIB
    )
    down = take.linear(f"{name}.output.dense", up.shape[1], shape.hidden)
    return _residual(made, take, shape, f"{name}.output", hidden, active, down)


def _residual(
    made: _Builder,
    take: _Taker,
    shape: BertShape,
    name: str,
    hidden: str,
    branch: str,
    dense: tuple[Array, Array],
) -> str:
    out = made.node("MatMul", [branch, made.weight(f"{name}.dense", dense[0])])
    norm = _norm(made, take, shape, f"{name}.LayerNorm")
    bias = made.weight(f"{name}.dense.bias", dense[1])
    return made.node(
        "SkipLayerNormalization",
        [out, hidden, *norm, bias],
        domain=CONTRIB,
        epsilon=shape.epsilon,
    )


def _norm(made: _Builder, take: _Taker, shape: BertShape, name: str) -> list[str]:
    return [
        made.weight(f"{name}.{part}", take(f"{name}.{part}", shape.hidden))
        for part in ("weight", "bias")
    ]


def _pool(made: _Builder, shape: BertShape, hidden: str, float_type: int) -> str:
    """(batch, sequence, hidden) to (batch, hidden)."""
    if shape.pooling == "cls":
        return made.node("Gather", [hidden, made.weight("first", np.array(0))], axis=1)
    mask = made.node("Cast", ["attention_mask"], to=float_type)
    wide = made.node("Unsqueeze", [mask, made.weight("last_axis", np.array([-1]))])
    axes = made.weight("sequence_axis", np.array([1]))
    total = made.node("ReduceSum", [made.node("Mul", [hidden, wide]), axes], keepdims=0)
    return made.node("Div", [total, made.node("ReduceSum", [wide, axes], keepdims=0)])
