"""Trimmed output layers: a draft that scores only the tokens it is likely to need.

A draft's wrong guess costs time and never text, so rows of its output layer that are hardly ever
first can go (FR-Spec, arXiv 2502.14856; VocabTrim, arXiv 2506.22694). The embedding keeps all its
rows, so any text can be read, and where both are one matrix the file stays as large as it was.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hola.errors import UnsupportedArchitecture
from hola_compressor.passes.graph import DATA_FILE, GRAPH_FILE, load_graph, write_external
from hola_compressor.passes.text import Row

_NEVER = -1e9  # logit of a token that is left out: finite, so that no sum becomes NaN
_NODES_BYTES = 2048


def frequent_tokens(rows: Iterable[Row], count: int, always: Sequence[int]) -> list[int]:
    """`always` and the most frequent tokens of the rows, `count` in all at most, rising."""
    seen = Counter(token for row in rows for token in row)
    ranked = sorted(seen, key=lambda token: (-seen[token], token))
    wanted = dict.fromkeys([*always, *ranked])
    return sorted(list(wanted)[: max(count, len(always))])


def extra_bytes(rows: int) -> int:
    """Most bytes that trimming to so many rows adds to an artifact."""
    return 4 * rows + _NODES_BYTES


def trim_head(folder: Path, keep: Sequence[int], out: Path) -> None:
    """Write to `out` (an existing folder) the artifact of `folder` scoring only `keep`, rising ids.

    The logits keep their width; those of other tokens are -1e9. Equal arguments give equal bytes.
    Raises UnsupportedArchitecture when the last node is no matrix product.
    """
    graph = load_graph(folder)
    head = next(node for node in graph.graph.node if "logits" in node.output)
    made = _Head(head, keep, _vocabulary(graph))
    nodes = [node for node in graph.graph.node if node is not head]
    del graph.graph.node[:]
    graph.graph.node.extend([*nodes, *made.nodes])
    graph.graph.initializer.extend(made.weights)
    write_external(graph, out)
    for file in folder.iterdir():
        if file.is_file() and file.name not in (GRAPH_FILE, DATA_FILE):
            shutil.copyfile(file, out / file.name)


def _vocabulary(graph: onnx.ModelProto) -> int:
    shape = next(out for out in graph.graph.output if out.name == "logits").type.tensor_type.shape
    return int(shape.dim[-1].dim_value)


class _Head:
    """The nodes in place of the last product. "~" marks what is folded when the graph is loaded."""

    def __init__(self, head: onnx.NodeProto, keep: Sequence[int], vocabulary: int) -> None:
        self.weights: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        kept = self._constant("keep", np.array(keep, np.int32))
        if head.op_type == "MatMulNBits":
            rows = [self._picked(name, kept, axis=0) for name in head.input[1:]]
        elif head.op_type == "MatMul":
            rows = [self._picked(head.input[1], kept, axis=1)]
        else:
            raise UnsupportedArchitecture(
                f"the output layer is a {head.op_type}, which cannot be trimmed", node=head.name
            )
        small = onnx.NodeProto()
        small.CopyFrom(head)
        del small.input[1:]
        small.input.extend(rows)
        small.output[0] = "head.small"
        for attribute in small.attribute:
            if attribute.name == "N":
                attribute.i = len(keep)
        self.nodes.append(small)
        self._spread(kept, len(keep), vocabulary)

    def _constant(self, name: str, value: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        self.weights.append(numpy_helper.from_array(value, f"head.{name}"))
        return f"head.{name}"

    def _node(self, kind: str, inputs: list[str], output: str, **more: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **more))
        return output

    def _picked(self, name: str, kept: str, *, axis: int) -> str:
        return self._node("Gather", [name, kept], f"~head.{len(self.nodes)}", axis=axis)

    def _spread(self, kept: str, count: int, vocabulary: int) -> None:
        """The few logits back at their tokens' places; all others read one that never wins."""
        ends = [np.array(at, np.int32) for at in (0, count, 1)]
        bounds = [self._constant(f"c{number}", at) for number, at in enumerate(ends)]
        places = self._node("Range", bounds, "~head.places")
        shape = self._constant("shape", np.array([vocabulary], np.int64))
        filler = helper.make_tensor("value", TensorProto.INT32, [1], [count])
        nowhere = self._node("ConstantOfShape", [shape], "~head.nowhere", value=filler)
        where = self._node("ScatterElements", [nowhere, kept, places], "~head.where", axis=0)
        pads = self._constant("pads", np.array([0, 0, 0, 0, 0, 1], np.int64))
        never = self._constant("never", np.array(_NEVER, np.float32))
        padded = self._node("Pad", ["head.small", pads, never], "head.padded")
        self._node("Gather", [padded, where], "logits", axis=2)
