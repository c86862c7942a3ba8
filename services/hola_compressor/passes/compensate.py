"""Rounding column by column, each error spread over the columns still to come (GPTQ)."""

from __future__ import annotations

import torch
from torch import Tensor

from hola_compressor.passes.codes import (
    Coded,
    Scheme,
    blocked,
    code_scales,
    encode,
    fit_scales,
    highest_scale_code,
)

_DAMPING = 0.01
_HEADROOM = 1.15


def compensated(weight: Tensor, scheme: Scheme, moments: Tensor) -> Coded:
    """Codes of `weight` [rows, columns] with the least error of the layer's output.

    `moments` [columns, columns] is the mean of x x^T over calibration activations x. Frantar et
    al., "GPTQ" (arXiv 2210.17323), algorithm 1, with each block's scale fitted to the weights as
    they are when the block is reached. Columns are taken in their own order, since blocks are
    contiguous. Falls back to plain rounding where the moments cannot be factored.
    """
    importance = moments.diagonal()
    plain = encode(weight, scheme, importance)
    factor = _inverse_factor(moments)
    if factor is None:
        return plain
    work = weight.float().clone()
    top = highest_scale_code(scheme.symmetric)
    unit = (plain.unit.float() * _HEADROOM).clamp_max(6e4).half()
    codes, scales, zeros = (part.clone() for part in (plain.codes, plain.scales, plain.zeros))
    columns, block = weight.shape[1], scheme.block
    heavy = blocked(importance[None].float(), block)[0]
    for number, start in enumerate(range(0, columns, block)):
        end = min(start + block, columns)
        part = blocked(work[:, start:end], block)
        scale, zero = fit_scales(part, scheme, heavy[number : number + 1])
        code = code_scales(scale, unit, scheme.symmetric).clamp(-top, top)
        real = (code.float() * unit.float()[:, None]).squeeze(1)
        zero = zero.squeeze(1)
        scales[:, number], zeros[:, number] = code.squeeze(1), zero.to(torch.uint8)
        errors = torch.zeros_like(work[:, start:end])
        for at in range(start, end):
            value = work[:, at]
            rounded = (value / real + zero).round().clamp(0, 2**scheme.bits - 1)
            codes[:, number, at - start] = rounded.to(torch.uint8)
            error = (value - (rounded - zero) * real) / factor[at, at]
            work[:, at + 1 : end] -= error[:, None] * factor[at, at + 1 : end]
            errors[:, at - start] = error
        work[:, end:] -= errors @ factor[start:end, end:]
    return Coded(scheme=scheme, columns=columns, codes=codes, scales=scales, unit=unit, zeros=zeros)


def _inverse_factor(moments: Tensor) -> Tensor | None:
    """Upper Cholesky factor of the damped inverse; None when there is none."""
    size = moments.shape[0]
    mean = moments.diagonal().mean().clamp_min(1e-8)
    damped = moments.double() + _DAMPING * mean.double() * torch.eye(size, dtype=torch.float64)
    lower, bad = torch.linalg.cholesky_ex(damped)
    if bad:
        return None
    inverse = torch.cholesky_inverse(lower)
    upper, bad = torch.linalg.cholesky_ex(inverse, upper=True)
    return None if bad else upper.float()
