"""Milliseconds of one tensor's product in a decoding step, measured on the machine at work."""

from __future__ import annotations

import statistics
import time

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from hola_compressor.passes.codes import Coded, Scheme
from hola_compressor.passes.nodes import Nodes, add_product
from hola_compressor.passes.units import Unit

WIDTH = 2  # tokens at once: what engines decode with
_RUNS = 15


def product_ms(unit: Unit, scheme: Scheme, *, accuracy_level: int) -> float:
    """Median of some runs on one thread. Speed does not depend on the codes, so they are zero."""
    made = Nodes(prefix="t")
    old = helper.make_node("MatMul", ["x", "w"], ["y"])
    with made.collected() as nodes:
        value = _zeros(unit, scheme)
        add_product(made, old, made.store(value), unit, accuracy_level)
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [WIDTH, unit.columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [WIDTH, unit.rows])],
        [numpy_helper.from_array(value, name) for name, value in made.weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    x = {"x": np.ones((WIDTH, unit.columns), np.float32)}
    times = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        session.run(None, x)
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


def _zeros(unit: Unit, scheme: Scheme) -> Coded | np.ndarray:
    if scheme.bits == 16:
        return np.zeros((unit.rows, unit.columns), np.float16)
    blocks = -(-unit.columns // scheme.block)
    return Coded(
        scheme=scheme,
        columns=unit.columns,
        codes=torch.zeros(unit.rows, blocks, scheme.block, dtype=torch.uint8),
        scales=torch.ones(unit.rows, blocks, dtype=torch.int16),
        unit=torch.ones(unit.rows, dtype=torch.float16),
        zeros=torch.zeros(unit.rows, blocks, dtype=torch.uint8),
    )
