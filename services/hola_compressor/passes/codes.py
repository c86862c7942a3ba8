"""Block-wise codes of a weight matrix: rounding, scales of 8 bits, zero points, and their bytes.

A block of `block` columns shares a scale and, when asymmetric, a zero point; a weight is
(code - zero) * scale. Scales are themselves coded: 8 bits each, times a half-precision number per
row (the double quantization of QLoRA, arXiv 2305.14314). Widths of 3, 5 and 6 bits are stored as
such and widened to the next width that the kernel has when the graph is loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

KERNEL_BITS = {2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 8: 8}
# Scales tried per block, as shares of the one that just reaches the largest weight.
_SHRINK = (1.0, 0.95, 0.9, 0.84, 0.78, 0.7, 0.6)
_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Scheme:
    """How a tensor is stored; `bits` 16 is half precision, and then nothing else matters."""

    bits: int
    block: int = 32
    symmetric: bool = False

    @property
    def name(self) -> str:
        """int4-b32-asym, or fp16."""
        if self.bits == 16:
            return "fp16"
        return f"int{self.bits}-b{self.block}-{'sym' if self.symmetric else 'asym'}"

    @property
    def low(self) -> int:
        """Lowest value of a code relative to a symmetric scheme's zero."""
        return -(1 << (self.bits - 1))

    @property
    def kernel_bits(self) -> int:
        """Width that the kernel multiplies with."""
        return KERNEL_BITS.get(self.bits, 32)

    @property
    def graph_bytes(self) -> int:
        """Bytes that its product's nodes and names take in the graph, at most."""
        return 500 if self.bits == 16 else 900 if self.kernel_bits == self.bits else 1300

    def disk_bytes(self, rows: int, columns: int) -> int:
        """Exact bytes in the weight file: codes, scale codes, row scales and zero points."""
        if self.bits == 16:
            return 2 * rows * columns
        blocks = math.ceil(columns / self.block)
        planes = sum(rows * blocks * self.block * plane // 8 for plane in planes_of(self.bits))
        zeros = 0 if self.symmetric else rows * math.ceil(blocks * zero_bits(self.bits) / 8)
        return planes + rows * blocks + 2 * rows + zeros

    def kernel_bytes(self, rows: int, columns: int) -> int:
        """Bytes held while running: codes at the kernel's width, scales in fp32."""
        if self.bits == 16:
            return 4 * rows * columns
        blocks, width = math.ceil(columns / self.block), KERNEL_BITS[self.bits]
        zeros = 0 if self.symmetric else rows * math.ceil(blocks * width / 8)
        return rows * blocks * self.block * width // 8 + 4 * rows * blocks + zeros


def planes_of(bits: int) -> tuple[int, ...]:
    """Widths whose fields fill bytes evenly and add up to `bits`, lowest bits first."""
    return {2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 8: (8,)}[bits]


def zero_bits(bits: int) -> int:
    """Width a zero point is stored at: the kernel's, so that it needs no unpacking."""
    return KERNEL_BITS[bits]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A coded matrix of `rows` x `columns`.

    `codes` uint8 [rows, blocks, block]; `scales` int16 [rows, blocks], the signed scale codes;
    `unit` fp16 [rows], what a scale code counts in; `zeros` uint8 [rows, blocks].
    """

    scheme: Scheme
    columns: int
    codes: Tensor
    scales: Tensor
    unit: Tensor
    zeros: Tensor

    def dense(self) -> Tensor:
        """The weights that the codes stand for, fp32 [rows, columns]."""
        scale = self.scales.float() * self.unit.float()[:, None]
        values = (self.codes.float() - self.zeros.float()[..., None]) * scale[..., None]
        return values.flatten(1)[:, : self.columns]


def blocked(weight: Tensor, block: int) -> Tensor:
    """[rows, columns] as [rows, blocks, block], zeros at the end."""
    pad = -weight.shape[1] % block
    padded = torch.nn.functional.pad(weight, (0, pad))
    return padded.reshape(len(weight), -1, block)


def highest_scale_code(symmetric: bool) -> int:
    """Symmetric scales have a sign, which costs a bit."""
    return 127 if symmetric else 255


def unit_of(scales: Tensor, symmetric: bool) -> Tensor:
    """fp16 [rows]: what the codes of a row's scales [rows, blocks] count in."""
    most = scales.abs().amax(1) / highest_scale_code(symmetric)
    return most.clamp_min(6e-8).half()


def code_scales(scales: Tensor, unit: Tensor, symmetric: bool) -> Tensor:
    """Scale codes, int16 [rows, blocks]; never zero, which would lose the block."""
    top = highest_scale_code(symmetric)
    codes = (scales / unit.float()[:, None]).round()
    sign = torch.where(codes < 0, -1.0, 1.0) if symmetric else torch.ones_like(codes)
    return (codes.abs().clamp(1, top) * sign).to(torch.int16)


def round_blocks(values: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Codes (as floats) of blocks [..., block] under a scale and zero [...]."""
    return (values / scale[..., None] + zero[..., None]).round().clamp(0, 2**bits - 1)


def fit_scales(
    blocks: Tensor, scheme: Scheme, importance: Tensor | None, *, search: bool = True
) -> tuple[Tensor, Tensor]:
    """Scale and zero per block [rows, blocks] with the least squared error.

    `importance` [blocks, block] weighs columns, e.g. by mean squared activations. Without `search`
    the plain range is taken, as round-to-nearest quantizers do.
    """
    levels = 2**scheme.bits - 1
    if scheme.symmetric:
        at = blocks.abs().argmax(-1, keepdim=True)
        base = blocks.gather(-1, at).squeeze(-1) / scheme.low
        base = torch.where(base.abs() < _TINY, torch.full_like(base, _TINY), base)
        offset = torch.full_like(base, float(2 ** (scheme.bits - 1)))
    else:
        low, high = blocks.amin(-1).clamp_max(0), blocks.amax(-1).clamp_min(0)
        base = ((high - low) / levels).clamp_min(_TINY)
        offset = (-low / base).round().clamp(0, levels)
    if not search:
        return base, offset
    weight = torch.ones_like(blocks[0]) if importance is None else importance
    best_scale = base.clone()
    best = torch.full_like(base, float("inf"))
    for share in _SHRINK:
        scale = base * share
        codes = round_blocks(blocks, scale, offset, scheme.bits)
        steps = codes - offset[..., None]
        fitted = (weight * steps * blocks).sum(-1) / (weight * steps * steps).sum(-1).clamp_min(
            _TINY
        )
        usable = fitted.sign() == scale.sign()
        scale = torch.where(usable, fitted, scale)
        error = (weight * (steps * scale[..., None] - blocks).square()).sum(-1)
        better = error < best
        best = torch.where(better, error, best)
        best_scale = torch.where(better, scale, best_scale)
    return best_scale, offset


def encode(
    weight: Tensor, scheme: Scheme, importance: Tensor | None = None, *, search: bool = True
) -> Coded:
    """Round `weight` [rows, columns] to the nearest codes; `importance` [columns]."""
    blocks = blocked(weight.float(), scheme.block)
    heavy = None if importance is None else blocked(importance[None].float(), scheme.block)[0]
    scale, zero = fit_scales(blocks, scheme, heavy, search=search)
    return with_scales(blocks, scheme, scale, zero, weight.shape[1])


def with_scales(blocks: Tensor, scheme: Scheme, scale: Tensor, zero: Tensor, columns: int) -> Coded:
    """Code the scales, then round the blocks under the coded ones."""
    unit = unit_of(scale, scheme.symmetric)
    scales = code_scales(scale, unit, scheme.symmetric)
    zero = zero.round().clamp(0, 2**scheme.bits - 1)
    codes = round_blocks(blocks, scales.float() * unit.float()[:, None], zero, scheme.bits)
    return Coded(
        scheme=scheme,
        columns=columns,
        codes=codes.to(torch.uint8),
        scales=scales,
        unit=unit,
        zeros=zero.to(torch.uint8),
    )
