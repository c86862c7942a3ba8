"""What each option of each tensor costs in KL: estimated for all, measured where it counts.

KL of small changes is half the change's square in the metric of the Fisher information. For a
matrix whose inputs have second moments H and whose outputs' gradients have mean squares f, that is
1/2 sum_n f_n d_n H d_n^T over rows d_n of the change, the Kronecker factoring of K-FAC (arXiv
1503.05671) with a diagonal output side. One option per tensor is measured on the logits as well,
and scales the others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hola.compression.plan import BITS, UNQUANTIZED, Quantize
from hola_compressor.passes.codes import Scheme, encode
from hola_compressor.passes.measure import Judge
from hola_compressor.passes.text import Row, batches, filled, vocabulary_of
from hola_compressor.passes.units import Unit, exchanged, put_weight, weight_of

_ROWS = 256
_LEAST = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Of one unit: `moments` [columns, columns] of inputs, `fisher` [rows] of outputs."""

    moments: Tensor
    fisher: Tensor


def schemes(options: Quantize, unit: Unit) -> list[Scheme]:
    """The unit's options. A block longer than the matrix is wide is left out."""
    fits = [block for block in options.blocks if block <= max(unit.columns, min(options.blocks))]
    kinds = [kind for kind, on in ((True, options.symmetric), (False, options.asymmetric)) if on]
    found = [
        Scheme(bits=bits, block=block, symmetric=symmetric)
        for bits in options.bits
        if bits != UNQUANTIZED
        for block in fits
        for symmetric in kinds
    ]
    return found + ([Scheme(bits=UNQUANTIZED)] if UNQUANTIZED in options.bits else [])


def statistics(
    model: nn.Module, units: Sequence[Unit], rows: Sequence[Row], *, seed: int
) -> dict[str, Statistics]:
    """Run the rows forward and, from tokens sampled of the model's own answers, backward."""
    seen = _Seen()
    hooks = [
        model.get_submodule(layer).register_forward_hook(seen.watch(layer))
        for unit in units
        for layer in unit.layers
    ]
    generator = torch.Generator().manual_seed(seed)
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    weight = embedding.weight.requires_grad_(True)
    try:
        for ids, known in batches(rows, vocabulary_of(model)):
            seen.at = filled(known).flatten()
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1][known]
            with torch.no_grad():
                drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
            torch.nn.functional.cross_entropy(logits, drawn, reduction="sum").backward()  # type: ignore[no-untyped-call]
            weight.grad = None
    finally:
        weight.requires_grad_(False)
        for hook in hooks:
            hook.remove()
    return {unit.name: seen.of(unit) for unit in units}


class _Seen:
    """Sums over positions: products of each layer's inputs, squares of its outputs' gradients.

    `at` says which positions of the batch under way are text; padding is none.
    """

    def __init__(self) -> None:
        self.at = torch.ones(0, dtype=torch.bool)
        self._inputs: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def watch(self, layer: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        """A forward hook of the layer's module."""

        def on_gradient(gradient: Tensor) -> None:  # is 0 at padding
            found = gradient.detach().flatten(0, -2).square().sum(0)
            self._squares[layer] = self._squares.get(layer, torch.zeros(())) + found

        def hook(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(on_gradient)  # type: ignore[no-untyped-call]
            if isinstance(module, nn.Embedding):
                return
            x = arguments[0].detach().flatten(0, -2)[self.at]
            self._inputs[layer] = self._inputs.get(layer, torch.zeros(())) + x.T @ x
            self._counts[layer] = self._counts.get(layer, 0) + len(x)

        return hook

    def of(self, unit: Unit) -> Statistics:
        """The unit's means; its sums are used up, since they are large."""
        if not unit.multiplies:  # a lookup: every column counts alike
            return Statistics(moments=torch.eye(unit.columns), fisher=torch.ones(unit.rows))
        sums = [self._inputs.pop(layer) for layer in unit.layers]
        count = self._counts[unit.layers[0]]
        fisher = torch.cat([self._squares[layer] for layer in unit.layers]) / count
        return Statistics(moments=sums[0].div_(count), fisher=fisher)


def estimated(weight: Tensor, scheme: Scheme, known: Statistics) -> float:
    """KL that rounding `weight` so would bring, up to the unit's own factor; from some rows."""
    step = max(1, len(weight) // _ROWS)
    part, fisher = weight[::step], known.fisher[::step]
    if scheme.bits == UNQUANTIZED:
        change = part.half().float() - part
    else:
        change = encode(part, scheme, known.moments.diagonal()).dense() - part
    per_row = ((change @ known.moments) * change).sum(1)
    return float(0.5 * step * (fisher * per_row).sum())


def measured(model: nn.Module, unit: Unit, judge: Judge, weight: Tensor) -> float:
    """Mean KL on the judge's rows with another matrix in the unit's place."""
    with exchanged(model, unit, weight):
        return max(judge.compare(model).kld_mean, 0.0)


def anchor(options: Quantize) -> Scheme:
    """The option that is measured: where the interesting budgets lie."""
    bits = [width for width in options.bits if width != UNQUANTIZED]
    middle = min(bits, key=lambda width: abs(width - 3), default=max(BITS))
    return Scheme(bits=middle, block=options.blocks[0], symmetric=not options.asymmetric)


def factor(
    model: nn.Module,
    unit: Unit,
    judge: Judge,
    scheme: Scheme,
    known: Statistics,
    *,
    base: float = 0.0,
) -> float:
    """Measured over estimated damage of the unit at one option; `base` is the model's own KL."""
    weight = weight_of(model, unit)
    guess = estimated(weight, scheme, known)
    dense = encode(weight, scheme, known.moments.diagonal()).dense()
    found = measured(model, unit, judge, dense) - base
    return max(found, _LEAST * guess) / guess if guess > 0 else 1.0


def rounded_copy(
    model: nn.Module,
    units: Sequence[Unit],
    chosen: Mapping[str, Scheme],
    known: Mapping[str, Statistics],
) -> nn.Module:
    """A copy of the model with every unit rounded as chosen, without compensation."""
    made = copy.deepcopy(model)
    for unit in units:
        weight, scheme = weight_of(model, unit), chosen[unit.name]
        if scheme.bits == UNQUANTIZED:
            put_weight(made, unit, weight.half().float())
        else:
            importance = known[unit.name].moments.diagonal()
            put_weight(made, unit, encode(weight, scheme, importance).dense())
    return made
