"""llama.cpp's own quantizers, called in its library: Q4_K_M and others, with and without imatrix.

Only libggml-base is needed (bench/peers/ggml.sh builds it). Which tensor gets which type follows
llama.cpp's recipe for Llama models, and so do the fallbacks for rows that are no multiple of 256.
The codes are expanded again and run in fp32, so llama.cpp's rounding of activations, which would
make it a little worse, is not in its figures.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

LIBRARY = "HOLA_BENCH_GGML"
RECIPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
_TYPES = {
    "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8,
    "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14,
}  # fmt: skip
_FALLBACK = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_BASE = {"Q5_K_M": "Q5_K", "Q4_K_M": "Q4_K", "Q3_K_M": "Q3_K"}
_HEADER_BYTES, _TENSOR_BYTES = 2048, 96  # of a GGUF file without a tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """Expanded matrices by layer name, bytes of the file, and the types that were used."""

    weights: Mapping[str, Tensor]
    bytes: int
    types: Mapping[str, int]


def find_library() -> Path | None:
    """libggml-base.so as HOLA_BENCH_GGML names it; None where it is not there."""
    path = Path(os.environ.get(LIBRARY, ""))
    return path if path.is_file() else None


class Ggml:
    """The library's quantize and expand functions."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.ggml_quantize_chunk.restype = ctypes.c_size_t
        self._library.ggml_row_size.restype = ctypes.c_size_t

    def quantize(
        self, weights: Mapping[str, Tensor], recipe: str, imatrix: Mapping[str, Tensor]
    ) -> Quantized:
        """Quantize matrices named as Hugging Face's Llama names them.

        `imatrix` holds mean squared inputs per column, empty for none. Other tensors (norms) are
        not in `weights`; their bytes are counted by the caller.
        """
        layers = 1 + max(_layer(name) for name in weights)
        made, used, size = {}, dict[str, int](), _HEADER_BYTES
        for name, weight in weights.items():
            kind = tensor_type(name, recipe, layers, weight.shape[1])
            heavy = imatrix.get(name)
            made[name], taken = self._round_trip(weight, kind, heavy)
            used[kind] = used.get(kind, 0) + 1
            size += taken + _TENSOR_BYTES
        return Quantized(weights=made, bytes=size, types=used)

    def _round_trip(self, weight: Tensor, kind: str, heavy: Tensor | None) -> tuple[Tensor, int]:
        if kind == "F16":
            return weight.half().float(), 2 * weight.numel()
        number, (rows, columns) = _TYPES[kind], weight.shape
        source = weight.float().contiguous()
        row_bytes = self._library.ggml_row_size(ctypes.c_int(number), ctypes.c_int64(columns))
        packed = (ctypes.c_uint8 * (rows * row_bytes))()
        importance = None if heavy is None else heavy.float().contiguous()
        self._library.ggml_quantize_chunk(
            ctypes.c_int(number), ctypes.c_void_p(source.data_ptr()), packed, ctypes.c_int64(0),
            ctypes.c_int64(rows), ctypes.c_int64(columns),
            ctypes.c_void_p(None if importance is None else importance.data_ptr()),
        )  # fmt: skip
        out = torch.empty(rows, columns)
        expand = getattr(self._library, f"dequantize_row_{kind.replace('Q', 'q')}")
        expand(packed, ctypes.c_void_p(out.data_ptr()), ctypes.c_int64(rows * columns))
        return out, rows * row_bytes


def tensor_type(name: str, recipe: str, layers: int, columns: int) -> str:
    """The type that llama.cpp's recipe gives a tensor of a dense Llama model."""
    wanted = _wanted(name, recipe, _layer(name), layers)
    if wanted.endswith("_K") and columns % 256:
        wanted = _FALLBACK[wanted]
    return wanted if columns % 32 == 0 else "F16"


def _wanted(name: str, recipe: str, layer: int, layers: int) -> str:
    base = _BASE.get(recipe, recipe)
    if layer < 0:  # output, or the embedding that is tied to it
        return "Q8_0" if recipe == "Q8_0" else "Q6_K"
    more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    kind = name.split(".")[-1]
    special = {
        ("v_proj", "Q2_K"): "Q3_K",
        ("v_proj", "Q3_K_M"): "Q5_K" if layer < 2 else "Q4_K",
        ("v_proj", "Q4_K_M"): "Q6_K" if more else base,
        ("v_proj", "Q5_K_M"): "Q6_K" if more else base,
        ("down_proj", "Q2_K"): "Q3_K",
        ("down_proj", "Q3_K_M"): "Q5_K" if layer < layers // 16 else "Q4_K",
        ("down_proj", "Q4_K_M"): "Q6_K" if more else base,
        ("down_proj", "Q5_K_M"): "Q6_K" if more else base,
        ("o_proj", "Q2_K"): "Q3_K",
        ("o_proj", "Q3_K_M"): "Q4_K",
    }
    return special.get((kind, recipe), base)


def _layer(name: str) -> int:
    parts = name.split(".")
    return int(parts[parts.index("layers") + 1]) if "layers" in parts else -1
