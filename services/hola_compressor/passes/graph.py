"""The exported decoder graph: its matrices matched with the model's, and written with codes.

onnxruntime-genai's builder writes the graph of an architecture in fp32; what it multiplies by is
found in the model by comparing numbers, so no table of names per architecture is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hola.errors import UnsupportedArchitecture
from hola_compressor.passes.codes import Coded
from hola_compressor.passes.nodes import Nodes, add_lookup, add_product
from hola_compressor.passes.units import Unit

DATA_FILE = "model.onnx.data"
GRAPH_FILE = "model.onnx"
_INLINE_BYTES = 256
_ALIGNMENT = 64
_LOOKUP_BYTES = 1500  # nodes and names of a token lookup in codes, at most
Array = npt.NDArray[Any]


def load_graph(folder: Path) -> onnx.ModelProto:
    """The exported graph with its weights in memory."""
    return onnx.load(str(folder / GRAPH_FILE))


def find_units(graph: onnx.ModelProto, model: nn.Module) -> tuple[Unit, ...]:
    """Every matrix of the graph and the model's layers it was made of, in the graph's order.

    Raises UnsupportedArchitecture for a matrix that is no linear layer of the model.
    """
    weights = _initializers(graph)
    linear = _linear_layers(model)
    tied = _lookup(graph, weights)
    units = []
    for node in _products(graph, weights):
        matrix = weights[node.input[1]].T
        layers = tuple(_match(matrix, linear, node.name))
        embeds = tied is not None and tied[1] == node.input[1]
        name = ".".join(node.input[1].split(".")[:-2]).removeprefix("model.")
        rows, columns = matrix.shape
        units.append(
            Unit(
                name=name, node=node.name, layers=layers, rows=rows, columns=columns, embeds=embeds
            )
        )
    if tied is not None and not any(unit.embeds for unit in units):
        units.append(_embedding_unit(tied, weights, model))
    return tuple(units)


def write_graph(
    graph: onnx.ModelProto,
    units: tuple[Unit, ...],
    codes: Mapping[str, Coded | Array],
    folder: Path,
    *,
    accuracy_level: int,
) -> None:
    """Write `folder`/model.onnx with `codes` (fp16 arrays for schemes of 16 bits) in the units.

    The graph given is not changed. Equal arguments give equal bytes.
    """
    weights = _initializers(graph)
    lookup = _lookup(graph, weights)
    made = Nodes()
    replaced: dict[str, list[onnx.NodeProto]] = {}
    dropped = {lookup[1]} if lookup else set()
    for number, unit in enumerate(units):
        made.prefix = f"q{number}"
        node = next(node for node in graph.graph.node if node.name == unit.node)
        with made.collected() as nodes:
            stored = made.store(codes[unit.name])
            if unit.multiplies:
                add_product(made, node, stored, unit, accuracy_level)
                dropped.add(node.input[1])
            if unit.embeds and lookup is not None:
                with made.collected() as looked_up:
                    add_lookup(made, lookup[0], stored, unit)
                replaced[lookup[0].name] = looked_up
        if unit.multiplies:
            replaced[node.name] = nodes
        else:
            replaced[node.name] = nodes + replaced.get(node.name, [])
    _save(graph, replaced, dropped, made.weights, folder)


def _save(
    graph: onnx.ModelProto,
    replaced: Mapping[str, list[onnx.NodeProto]],
    dropped: set[str],
    weights: Mapping[str, Array],
    folder: Path,
) -> None:
    """Put the new nodes in, drop what nothing reads any more, write graph and weights."""
    nodes: list[onnx.NodeProto] = []
    early: list[onnx.NodeProto] = []
    for node in graph.graph.node:
        if node.op_type == "Transpose" and node.input[0] in dropped:
            continue
        for new in replaced.get(node.name, [node]):
            copy = onnx.NodeProto()
            copy.CopyFrom(new)
            copy.name = node.name if new is node or copy.op_type == "MatMulNBits" else ""
            (early if _constant_part(copy) else nodes).append(copy)
    kept = [item for item in graph.graph.initializer if item.name not in dropped]
    inits = [*kept, *(numpy_helper.from_array(value, name) for name, value in weights.items())]
    made = helper.make_graph(
        [*early, *nodes], "decoder", list(graph.graph.input), list(graph.graph.output), inits
    )
    model = helper.make_model(made, ir_version=graph.ir_version)
    del model.opset_import[:]
    model.opset_import.extend(graph.opset_import)
    folder.mkdir(parents=True, exist_ok=True)
    write_external(model, folder)


def _constant_part(node: onnx.NodeProto) -> bool:
    """Unpacking comes first: its tensors are shared by nodes that stand far apart."""
    return bool(node.output[0].startswith("~"))


def write_external(model: onnx.ModelProto, folder: Path) -> None:
    """Write the graph, tensors of more than a few bytes in a file beside it, without gaps."""
    with (folder / DATA_FILE).open("wb") as stream:
        for tensor in model.graph.initializer:
            raw = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
            if len(raw) <= _INLINE_BYTES:
                continue
            stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))
            place = {"location": DATA_FILE, "offset": stream.tell(), "length": len(raw)}
            stream.write(raw)
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
    (folder / GRAPH_FILE).write_bytes(model.SerializeToString(deterministic=True))


def _initializers(graph: onnx.ModelProto) -> dict[str, Array]:
    return {item.name: numpy_helper.to_array(item) for item in graph.graph.initializer}


def _products(graph: onnx.ModelProto, weights: Mapping[str, Array]) -> Iterator[onnx.NodeProto]:
    for node in graph.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            yield node


def _lookup(
    graph: onnx.ModelProto, weights: Mapping[str, Array]
) -> tuple[onnx.NodeProto, str] | None:
    """The node that looks tokens up and the initializer it reads, perhaps transposed."""
    transposed = {
        node.output[0]: node.input[0] for node in graph.graph.node if node.op_type == "Transpose"
    }
    for node in graph.graph.node:
        if node.op_type == "Gather" and node.input[1] == "input_ids":
            name = transposed.get(node.input[0], node.input[0])
            if name in weights:
                return node, name
    return None


def _linear_layers(model: nn.Module) -> dict[tuple[int, bytes], list[tuple[str, Array]]]:
    """Linear layers by width and first row."""
    found: dict[tuple[int, bytes], list[tuple[str, Array]]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            matrix = module.weight.detach().float().numpy()
            found.setdefault((matrix.shape[1], matrix[0].tobytes()), []).append((name, matrix))
    return found


def _match(
    matrix: Array, linear: Mapping[tuple[int, bytes], list[tuple[str, Array]]], node: str
) -> Iterator[str]:
    """Names of the layers whose rows, one after another, are the matrix's."""
    start = 0
    while start < len(matrix):
        key = (matrix.shape[1], np.ascontiguousarray(matrix[start]).tobytes())
        for name, rows in linear.get(key, []):
            if np.array_equal(matrix[start : start + len(rows)], rows):
                yield name
                start += len(rows)
                break
        else:
            raise UnsupportedArchitecture(
                f"the graph's {node} is no linear layer of the checkpoint, so it cannot be"
                " compressed",
                node=node,
            )


def _embedding_unit(
    lookup: tuple[onnx.NodeProto, str], weights: Mapping[str, Array], model: nn.Module
) -> Unit:
    node, name = lookup
    for layer, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            rows, columns = weights[name].shape
            return Unit(
                name="embed_tokens", node=node.name, layers=(layer,), rows=rows,
                columns=columns, embeds=True, multiplies=False,
            )  # fmt: skip
    raise UnsupportedArchitecture("the checkpoint has no token embedding", node=node.name)


def half(weight: torch.Tensor) -> Array:
    """A matrix as stored by a scheme of 16 bits."""
    return weight.half().numpy()


def fixed_bytes(graph: onnx.ModelProto, units: tuple[Unit, ...]) -> int:
    """Bytes of what no scheme changes, at most: norms, rotary tables, the graph around them."""
    weights = _initializers(graph)
    lookup = _lookup(graph, weights)
    nodes = {unit.node for unit in units}
    coded = {node.input[1] for node in graph.graph.node if node.name in nodes}
    coded |= {lookup[1]} if lookup else set()
    rest = sum(value.nbytes for name, value in weights.items() if name not in coded)
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(graph)
    del skeleton.graph.initializer[:], skeleton.graph.value_info[:], skeleton.graph.node[:]
    skeleton.graph.node.extend(node for node in graph.graph.node if node.name not in nodes)
    return rest + skeleton.ByteSize() + _LOOKUP_BYTES
