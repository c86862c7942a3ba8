"""Nodes that turn stored codes into what the kernels take.

Everything whose name begins with "~" is computed from weights alone: onnxruntime folds it when it
loads the graph, so it costs nothing afterwards, and the file holds the packed form only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from hola.compression.plan import UNQUANTIZED
from hola_compressor.passes.codes import KERNEL_BITS, Coded, Scheme, planes_of
from hola_compressor.passes.units import Unit

Array = npt.NDArray[Any]
_CONTRIB = "com.microsoft"
_TABLE_ENTRY_BYTES = 200  # of a table's name and place in the graph, and of the gap before it


@dataclass(slots=True)
class Nodes:
    """Nodes and weights in the making; `prefix` keeps names of different units apart."""

    prefix: str = ""
    weights: dict[str, Array] = field(default_factory=dict)
    _nodes: list[onnx.NodeProto] = field(default_factory=list)
    _count: int = 0

    @contextmanager
    def collected(self) -> Iterator[list[onnx.NodeProto]]:
        """The nodes added inside, taken out of those around."""
        outer = self._nodes
        inner: list[onnx.NodeProto] = []
        self._nodes = inner
        try:
            yield inner
        finally:
            self._nodes = outer

    def weight(self, kind: str, value: Array) -> str:
        """Add an initializer of this unit; its name."""
        name = f"{self.prefix}.{kind}"
        self.weights[name] = np.ascontiguousarray(value)
        return name

    def shared(self, value: Array) -> str:
        """A small constant, kept once for all units."""
        text = "_".join(str(entry) for entry in value.ravel())
        name = f"c.{value.dtype.name}.{text}"
        self.weights.setdefault(name, value)
        return name

    def node(self, kind: str, inputs: list[str], *, folded: bool = True, **more: Any) -> str:
        """Add a node with one output; its name."""
        self._count += 1
        output = f"{'~' if folded else ''}{self.prefix}.{self._count}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **more))
        return output

    def add(self, node: onnx.NodeProto) -> None:
        """Add a finished node."""
        self._nodes.append(node)

    def store(self, value: Coded | Array) -> Stored:
        """Initializers of one matrix, and the nodes that make the kernel's tensors of them."""
        if isinstance(value, Coded):
            return _store_codes(self, value)
        raw = self.weight("w", value)
        dense = self.node("Cast", [raw], to=TensorProto.FLOAT)
        return Stored(dense=dense)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Names of a matrix's tensors; `dense` [rows, columns] where it is not coded."""

    codes: str = ""
    scales: str = ""
    zeros: str = ""
    dense: str = ""
    coded: Coded | None = None


def pack(values: Array, bits: int) -> Array:
    """Pack uint8 [..., n] of `bits` each into bytes [..., ceil(n * bits / 8)], lowest first."""
    per = 8 // bits
    padded = np.zeros((*values.shape[:-1], -(-values.shape[-1] // per) * per), np.uint8)
    padded[..., : values.shape[-1]] = values
    fields = padded.reshape(*padded.shape[:-1], -1, per)
    shifts = np.arange(per, dtype=np.uint8) * np.uint8(bits)
    packed: Array = np.bitwise_or.reduce(fields << shifts, axis=-1).astype(np.uint8)
    return packed


def kernel_zero(coded: Coded) -> int:
    """What the kernel takes as zero when no zero points are given."""
    return int(2 ** (KERNEL_BITS[coded.scheme.bits] - 1))


def _store_codes(made: Nodes, coded: Coded) -> Stored:
    scheme = coded.scheme
    sign = np.int8 if scheme.symmetric else np.uint8
    codes = made.node("Cast", [made.weight("s", coded.scales.numpy().astype(sign))], to=1)
    unit = made.node("Cast", [made.weight("u", coded.unit.numpy()[:, None])], to=1)
    zeros = ""
    if not scheme.symmetric:
        packed = pack(coded.zeros.numpy(), KERNEL_BITS[scheme.bits])
        zeros = made.weight("z", packed)
    return Stored(
        codes=_kernel_codes(made, coded),
        scales=made.node("Mul", [codes, unit]),
        zeros=zeros,
        coded=coded,
    )


def _kernel_codes(made: Nodes, coded: Coded) -> str:
    """The codes packed as the kernel wants them, uint8 [rows, blocks, bytes of a block]."""
    bits, values = coded.scheme.bits, coded.codes.numpy()
    width = KERNEL_BITS[bits]
    if width == bits:
        return made.weight("q", pack(values, bits))
    low, high = planes_of(bits)
    for_low, for_high = _tables(coded.scheme)
    # A byte of the high plane gives as many bytes as `together` bytes of the low one.
    together, each = low // high, width // low
    below = pack(values & np.uint8(2**low - 1), low)
    below = below.reshape(*values.shape[:2], -1, together)
    above = pack(values >> np.uint8(low), high)
    parts = [
        _looked_up(made, "q0", below, for_low, (each,)),
        _looked_up(made, f"q{low}", above, for_high, (together, each)),
    ]
    rows, blocks, block = values.shape
    target = made.shared(np.array([rows, blocks, block * width // 8], np.int64))
    return made.node("Reshape", [made.node("Add", parts), target])


class _Table(NamedTuple):
    """What every packed byte gives: its fields of `bits` at bit `at` of fields of `width`."""

    bits: int
    at: int
    width: int
    lift: int  # added to each

    def values(self) -> Array:
        """uint8 [256, width / bits]."""
        stored = np.arange(256, dtype=np.uint16)[:, None]
        fields = (stored >> np.arange(0, 8, self.bits, dtype=np.uint16)) & (2**self.bits - 1)
        placed = ((fields << self.at) + self.lift).reshape(256, -1, 8 // self.width)
        shifts = np.arange(0, 8, self.width, dtype=np.uint16)
        given: Array = (placed << shifts).sum(-1).astype(np.uint8)
        return given


def _tables(scheme: Scheme) -> tuple[_Table, ...]:
    """What widens the planes of a scheme, the low one's first; nothing where it has one."""
    bits, width = scheme.bits, scheme.kernel_bits
    if bits in (width, UNQUANTIZED):
        return ()
    low, high = planes_of(bits)
    lift = 2 ** (width - 1) - 2 ** (bits - 1) if scheme.symmetric else 0
    return _Table(low, 0, width, 0), _Table(high, low, width, lift)


def tables_bytes(schemes: Iterable[Scheme]) -> int:
    """Bytes of the tables that units of these schemes share, at most."""
    tables = {table for scheme in schemes for table in _tables(scheme)}
    return sum(table.values().nbytes + _TABLE_ENTRY_BYTES for table in tables)


def _looked_up(made: Nodes, kind: str, packed: Array, table: _Table, shape: tuple[int, ...]) -> str:
    """Packed bytes [...] as what the table has for each, [..., *shape].

    One node and a constant for all units: onnxruntime keeps whatever is folded on the way until all
    is, so a chain of shifts and masks holds many times the weights while the graph is loaded.
    """
    name = f"c.table.{'.'.join(map(str, table))}"
    made.weights.setdefault(name, table.values().reshape(256, *shape))
    index = made.node("Cast", [made.weight(kind, packed)], to=TensorProto.INT32)
    return made.node("Gather", [name, index], axis=0)


def _fields(made: Nodes, packed: str, bits: int, shape: tuple[int, ...], *, folded: bool) -> str:
    """Fields of `bits` of packed bytes, reshaped; 0 in `shape` keeps a dimension."""
    if bits == 8:
        return packed
    shifts = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
    axis = made.shared(np.array([-1], np.int64))
    wide = made.node("Unsqueeze", [packed, axis], folded=folded)
    moved = made.node("BitShift", [wide, made.shared(shifts)], folded=folded, direction="RIGHT")
    mask = made.shared(np.array([2**bits - 1], np.uint8))
    fields = made.node("BitwiseAnd", [moved, mask], folded=folded)
    target = made.shared(np.array(shape, np.int64))
    return made.node("Reshape", [fields, target], folded=folded)


def add_product(
    made: Nodes, old: onnx.NodeProto, stored: Stored, unit: Unit, accuracy_level: int
) -> None:
    """The matrix product in place of `old`."""
    if stored.coded is None:
        turned = made.node("Transpose", [stored.dense], perm=[1, 0])
        made.add(helper.make_node("MatMul", [old.input[0], turned], list(old.output)))
        return
    scheme = stored.coded.scheme
    inputs = [old.input[0], stored.codes, stored.scales]
    made.add(
        helper.make_node(
            "MatMulNBits",
            inputs + ([stored.zeros] if stored.zeros else []),
            list(old.output),
            domain=_CONTRIB,
            K=unit.columns,
            N=unit.rows,
            bits=KERNEL_BITS[scheme.bits],
            block_size=scheme.block,
            accuracy_level=accuracy_level,
        )
    )


def add_lookup(made: Nodes, old: onnx.NodeProto, stored: Stored, unit: Unit) -> None:
    """The token lookup in place of `old`: rows are unpacked after they are picked."""
    ids = old.input[1]
    if stored.coded is None:
        picked = made.node("Gather", [stored.dense, ids], folded=False)
        made.add(helper.make_node("Identity", [picked], list(old.output)))
        return
    coded = stored.coded
    blocks, block = coded.codes.shape[1:]
    width = KERNEL_BITS[coded.scheme.bits]
    picked = made.node("Gather", [stored.codes, ids], folded=False)
    fields = _fields(made, picked, width, (0, 0, blocks, block), folded=False)
    values = made.node("Cast", [fields], folded=False, to=TensorProto.FLOAT)
    zero = _zeros(made, stored, coded, ids)
    axis = made.shared(np.array([-1], np.int64))
    scale = made.node("Gather", [stored.scales, ids], folded=False)
    scale = made.node("Unsqueeze", [scale, axis], folded=False)
    moved = made.node("Sub", [values, zero], folded=False)
    product = made.node("Mul", [moved, scale], folded=False)
    flat = made.shared(np.array([0, 0, blocks * block], np.int64))
    if blocks * block == unit.columns:
        made.add(helper.make_node("Reshape", [product, flat], list(old.output)))
        return
    whole = made.node("Reshape", [product, flat], folded=False)
    bounds = [made.shared(np.array([at], np.int64)) for at in (0, unit.columns, 2)]
    made.add(helper.make_node("Slice", [whole, *bounds], list(old.output)))


def _zeros(made: Nodes, stored: Stored, coded: Coded, ids: str) -> str:
    """Zero points of the tokens' rows, fp32 [..., blocks, 1], or the constant one."""
    if not stored.zeros:
        return made.shared(np.array([float(kernel_zero(coded))], np.float32))
    rows, blocks, _ = coded.codes.shape
    width = KERNEL_BITS[coded.scheme.bits]
    whole = -(-blocks * width // 8) * 8 // width
    unpacked = _fields(made, stored.zeros, width, (rows, whole), folded=True)
    if whole != blocks:
        bounds = [made.shared(np.array([at], np.int64)) for at in (0, blocks, 1)]
        unpacked = made.node("Slice", [unpacked, *bounds])
    real = made.node("Cast", [unpacked], to=TensorProto.FLOAT)
    picked = made.node("Gather", [real, ids], folded=False)
    axis = made.shared(np.array([-1], np.int64))
    return made.node("Unsqueeze", [picked, axis], folded=False)
