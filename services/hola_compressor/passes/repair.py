"""Training what is stored: scales and codes move so that the logits are the original's again.

Rounding stays in the forward pass and is passed over in the backward one (straight-through, arXiv
1308.3432), with learned scales as in LSQ (arXiv 1902.08153) and the KL to the original as loss.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hola.compression.plan import Repair
from hola_compressor.passes.codes import Coded, blocked, code_scales
from hola_compressor.passes.text import Row, vocabulary_of
from hola_compressor.passes.training import answers, divergence, draw, half_where_fast
from hola_compressor.passes.units import Unit, parameter, weight_of

_WARM = 0.1
_INSIDE = 0.45


class Trained(nn.Module):
    """A coded matrix in training: `gains` are its scales' logarithms, `places` unrounded codes.

    Without `codes` there are no places, and the codes stay as they are.
    """

    def __init__(self, coded: Coded, original: Tensor, *, codes: bool) -> None:
        super().__init__()
        self.coded = coded
        self.scale = coded.scales.float() * coded.unit.float()[:, None]
        self.gains = nn.Parameter(torch.zeros_like(self.scale))
        self.places: nn.Parameter | None = None
        if codes:
            codes_now = coded.codes.float()
            exact = blocked(original, coded.scheme.block) / self.scale[..., None]
            exact = exact + coded.zeros.float()[..., None]
            inside = codes_now + (exact - codes_now).clamp(-_INSIDE, _INSIDE)
            self.places = nn.Parameter(inside)

    def scales(self) -> Tensor:
        """Scale codes as floats, rounded, with a gradient as if they were not."""
        unit = self.coded.unit.float()[:, None]
        wanted = self.scale * self.gains.exp()
        rounded = code_scales(wanted, self.coded.unit, self.coded.scheme.symmetric).float() * unit
        return wanted + (rounded - wanted).detach()

    def forward(self) -> Tensor:
        """The matrix [rows, columns] that the codes stand for now."""
        values = (self.codes() - self.coded.zeros.float()[..., None]) * self.scales()[..., None]
        return values.flatten(1)[:, : self.coded.columns]

    def codes(self) -> Tensor:
        """Codes as floats, rounded, with a gradient as if they were not where they are trained."""
        if self.places is None:
            return self.coded.codes.float()
        held = self.places.clamp(0, 2**self.coded.scheme.bits - 1)
        return held + (held.round() - held).detach()

    @torch.no_grad()
    def result(self) -> Coded:
        """The codes as they are now."""
        scheme = self.coded.scheme
        wanted = self.scale * self.gains.exp()
        return Coded(
            scheme=scheme,
            columns=self.coded.columns,
            codes=self.codes().round().to(torch.uint8),
            scales=code_scales(wanted, self.coded.unit, scheme.symmetric),
            unit=self.coded.unit,
            zeros=self.coded.zeros,
        )


def repaired(
    model: nn.Module,
    teacher: nn.Module,
    codes: Mapping[Unit, Coded],
    rows: Sequence[Row],
    *,
    options: Repair,
    seed: int,
    step_done: Callable[[int, float], None],
) -> dict[str, Coded]:
    """Train the codes; `model` holds the weights that they were rounded from and keeps them.

    `step_done` gets the step's number and its loss. Deterministic for a seed.
    """
    trained = {
        unit: Trained(coded, weight_of(model, unit), codes=options.codes)
        for unit, coded in codes.items()
    }
    groups = [
        {"params": [m.gains for m in trained.values()], "lr": options.rate},
        {
            "params": [m.places for m in trained.values() if m.places is not None],
            "lr": 10 * options.rate,
        },
    ]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]], betas=(0.9, 0.95))
    rates = [group["lr"] for group in optimizer.param_groups]
    order = random.Random(seed)
    for step in range(options.steps):
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for share, ids, known in draw(order, rows, options.rows, vocabulary_of(model)):
            loss = share * _loss(model, teacher, trained, ids, known)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * _pace(step / options.steps)
        optimizer.step()
        step_done(step + 1, total)
    return {unit.name: module.result() for unit, module in trained.items()}


def _loss(
    model: nn.Module,
    teacher: nn.Module,
    trained: Mapping[Unit, Trained],
    ids: Tensor,
    known: Tensor,
) -> Tensor:
    """KL per token, original || now."""
    wanted = answers(teacher, ids, known)
    parameters: dict[str, Tensor] = {}
    for unit, module in trained.items():
        # What is on the way from codes to matrix takes many times their bytes: made again backward.
        matrix, start = checkpoint(module, use_reentrant=False), 0
        for layer in unit.layers:
            rows = len(parameter(model, layer))
            parameters[f"{layer}.weight"] = matrix[start : start + rows]
            start += rows
    with half_where_fast():
        answer = torch.func.functional_call(
            model, parameters, kwargs={"input_ids": ids, "use_cache": False}
        )
        found = answer.logits[:, :-1][known]
    return divergence(found, wanted)


def _pace(progress: float) -> float:
    """Up in the first tenth, then down to nothing."""
    return min(progress / _WARM + 0.05, (1 - progress) / (1 - _WARM), 1.0)
