"""One sequence's KV cache on an onnxruntime graph: bound buffers, padded widths, cheap rollback.

A step of width w costs one write of w token ids, one re-binding of the attention mask (its length
is the only thing that changes) and the run itself: everything else was bound once per width.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.engines.decoder_config import DecoderConfig
from hola.errors import ArtifactInvalid, EngineFailure, PromptTooLong
from hola.ports import Logits

LARGEST_CHUNK = 64
_ARM = platform.machine().lower() in ("aarch64", "arm64")
# Every step's width is a multiple of it. The kernels take rows in groups of that many and compute a
# smaller rest in another way, with other bits: pairs on x86-64, fours on 64-bit ARM.
WIDTH_MULTIPLE = 4 if _ARM else 2
# On 64-bit ARM they also take the tokens that a row looks back at in fours, so a step begins and
# ends at a multiple of four there, and runs up to three cached tokens again.
ALIGNED = _ARM


@dataclass(frozen=True, slots=True)
class Element:
    """An element type: onnx's number, and the numpy type that holds its bits."""

    onnx: int
    numpy: type[np.generic]


_ELEMENTS = {
    "tensor(float)": Element(1, np.float32),
    "tensor(uint8)": Element(2, np.uint8),
    "tensor(int8)": Element(3, np.int8),
    "tensor(float16)": Element(10, np.float16),
    "tensor(bfloat16)": Element(16, np.uint16),
}
_BFLOAT16 = _ELEMENTS["tensor(bfloat16)"]
_INT64 = 7


def element(onnxruntime_type: str) -> Element:
    """Element type of a graph's input or output. Raises ArtifactInvalid for one we cannot hold."""
    try:
        return _ELEMENTS[onnxruntime_type]
    except KeyError:
        raise ArtifactInvalid(f"{onnxruntime_type} is not supported in a decoder graph") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A loaded graph and what its sessions need to know of it.

    `kv_shapes` holds (heads, head size) of each cache input; `masks` the longest mask so far, all
    ones and shared, since every session masks by length only.
    """

    ort: Any
    runtime: Any
    config: DecoderConfig
    device: str
    kv_element: Element
    kv_shapes: tuple[tuple[int, int], ...]
    logits_element: Element
    takes_positions: bool

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes one cached token takes over all layers."""
        size = np.dtype(self.kv_element.numpy).itemsize
        return size * sum(heads * head_size for heads, head_size in self.kv_shapes)

    def allocate_cache(self, rows: int) -> list[Any]:
        """One OrtValue of shape (1, heads, rows, head size) per cache input, on the device."""
        return [self._buffer((1, heads, rows, size)) for heads, size in self.kv_shapes]

    def _buffer(self, shape: tuple[int, ...]) -> Any:
        value = self.ort.OrtValue
        if self.device != "cpu":
            return value.ortvalue_from_shape_and_type(shape, self.kv_element.onnx, self.device, 0)
        zeros = np.zeros(shape, self.kv_element.numpy)
        return value.ortvalue_from_numpy_with_onnx_type(zeros, self.kv_element.onnx)


@dataclass(frozen=True, slots=True)
class _Step:
    """Everything of one width: the binding and the buffers it points to."""

    binding: Any
    ids: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64] | None
    rows: npt.NDArray[Any]


@dataclass(slots=True)
class _Output:
    """Logits of the widest step so far; narrower steps use its first rows."""

    raw: npt.NDArray[Any]
    steps: dict[int, _Step] = field(default_factory=dict)


class OnnxSession:
    """hola.ports.EngineSession. `rows` >= capacity are allocated, `release` gives them back."""

    def __init__(
        self, graph: Graph, capacity: int, rows: int, *, release: Callable[[], None]
    ) -> None:
        self._graph: Graph | None = graph
        self._vocab_size = graph.config.vocab_size
        self._capacity = capacity
        self._rows = rows
        self._release = release
        self._length = 0
        self._tokens = np.zeros(rows, np.int64)
        self._mask = np.ones(rows, np.int64)
        self._mask_address = self._mask.ctypes.data
        self._cache = graph.allocate_cache(rows)
        self._output = _Output(np.empty((0, self._vocab_size), graph.logits_element.numpy))
        self.run = graph.runtime.run_with_iobinding

    @property
    def length(self) -> int:
        """Tokens whose keys and values are in the cache."""
        return self._length

    @property
    def capacity(self) -> int:
        """Most tokens the cache can hold."""
        return self._capacity

    def forward(self, tokens: Sequence[int]) -> Logits:
        """Append tokens, return their logits (len(tokens), vocab_size) float32.

        The array is overwritten by this session's next call. More than LARGEST_CHUNK tokens are
        run in chunks, which changes no bit of the result.
        Raises EngineFailure (also for a token id out of range), PromptTooLong.
        """
        count = len(tokens)
        if 0 < count <= LARGEST_CHUNK:
            rows = self._append(tokens)
        else:
            chunks = [self._append(chunk).copy() for chunk in _chunks(tokens)]
            rows = np.concatenate(chunks) if chunks else self._output.raw[:0]
        logits = _as_float32(rows, self._graph_or_raise().logits_element)
        if count and not np.isfinite(logits.max()):
            raise EngineFailure("the forward pass gave non-finite logits")
        return logits

    def prefill(self, tokens: Sequence[int]) -> None:
        """Append tokens whose logits nobody needs, in chunks of LARGEST_CHUNK."""
        for chunk in _chunks(tokens):
            self._append(chunk)

    def truncate(self, length: int) -> None:
        """Forget all tokens from `length` on; constant time. Raises EngineFailure beyond it."""
        if not 0 <= length <= self._length:
            raise EngineFailure(f"cannot truncate {self._length} tokens to {length}")
        self._length = length

    def close(self) -> None:
        """Free the cache. Idempotent."""
        if self._graph is not None:
            self._graph = None
            self._cache = []
            self._output = _Output(self._output.raw[:0])
            self._release()

    def _append(self, tokens: Sequence[int]) -> npt.NDArray[Any]:
        """Run 1..LARGEST_CHUNK tokens; returns their rows of the raw logits buffer.

        A count that is no multiple of WIDTH_MULTIPLE takes along throw-away tokens behind it, whose
        cache entries the next step overwrites. Where the cache has no rows left for them, or the
        step has to be aligned, the last cached tokens are run again in front, which writes the same
        bits to the same place.
        """
        count, start = len(tokens), self._length
        end = start + count
        self._check(tokens, end)
        self._tokens[start:end] = tokens
        first = start - start % WIDTH_MULTIPLE if ALIGNED else start
        width = padded_width(end - first)
        first -= max(first + width - self._rows, 0)
        lead = start - first
        step = self._step(width)
        step.ids[0] = self._tokens[first : first + width]
        if step.positions is not None:
            step.positions[0] = np.arange(first, first + width)
        self._bind_mask(step.binding, first + width)
        try:
            self.run(step.binding)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise EngineFailure(f"forward pass failed: {str(error).splitlines()[0]}") from error
        self._length = end
        return step.rows[lead : lead + count]

    def _check(self, tokens: Sequence[int], end: int) -> None:
        self._graph_or_raise()
        if end > self._capacity:
            raise PromptTooLong(
                f"{end} tokens do not fit a KV cache of {self._capacity}",
                prompt_tokens=end,
                context_length=self._capacity,
            )
        if min(tokens) < 0 or max(tokens) >= self._vocab_size:
            raise EngineFailure(f"token ids must be in 0..{self._vocab_size - 1}")

    def _graph_or_raise(self) -> Graph:
        if self._graph is None:
            raise EngineFailure("the session is closed")
        return self._graph

    def _bind_mask(self, binding: Any, length: int) -> None:
        name = self._graph_or_raise().config.attention_mask
        binding.bind_input(name, "cpu", 0, _INT64, (1, length), self._mask_address)

    def _step(self, width: int) -> _Step:
        if width > len(self._output.raw):
            shape = (width, self._vocab_size)
            self._output = _Output(np.empty(shape, self._output.raw.dtype))
        step = self._output.steps.get(width)
        if step is None:
            step = self._output.steps[width] = self._bind(width)
        return step

    def _bind(self, width: int) -> _Step:
        graph = self._graph_or_raise()
        config = graph.config
        binding = graph.runtime.io_binding()
        ids = np.zeros((1, width), np.int64)
        positions = np.zeros((1, width), np.int64) if graph.takes_positions else None
        binding.bind_input(config.input_ids, "cpu", 0, _INT64, ids.shape, ids.ctypes.data)
        if positions is not None:
            name = config.position_ids
            binding.bind_input(name, "cpu", 0, _INT64, ids.shape, positions.ctypes.data)
        rows = self._output.raw[:width]
        shape = (1, width, self._vocab_size)
        kind = graph.logits_element.onnx
        binding.bind_output(config.logits, "cpu", 0, kind, shape, rows.ctypes.data)
        names = zip(config.past_names, config.present_names, self._cache, strict=True)
        for past, present, buffer in names:
            binding.bind_ortvalue_input(past, buffer)
            binding.bind_ortvalue_output(present, buffer)
        return _Step(binding, ids, positions, rows)


def padded_width(tokens: int) -> int:
    """Width of the step that runs so many tokens."""
    return -(-tokens // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


def _chunks(tokens: Sequence[int]) -> list[Sequence[int]]:
    starts = range(0, len(tokens), LARGEST_CHUNK)
    return [tokens[start : start + LARGEST_CHUNK] for start in starts]


def _as_float32(rows: npt.NDArray[Any], kind: Element) -> Logits:
    if kind is _BFLOAT16:
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return rows.astype(np.float32, copy=False)
