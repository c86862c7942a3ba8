"""Muon for the matrices (orthogonalised momentum) beside AdamW for everything else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from tools.tiers.team import Team

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(batch: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration towards the nearest orthogonal matrix, for a stack of matrices."""
    a, b, c = COEFFICIENTS
    x = batch.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; the team shares the matrices out."""

    def __init__(self, params: Iterable[Tensor], lr: float, team: Team) -> None:
        super().__init__(params, {"lr": lr, "momentum": 0.95, "decay": 0.02})
        self.team = team

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params, lr = group["params"], group["lr"]
            momenta = [self._momentum(p, group["momentum"]) for p in params]
            updates = self.team.gather(self._mine(momenta), [p.shape for p in params])
            for p, update in zip(params, updates, strict=True):
                scale = max(1.0, p.shape[0] / p.shape[1]) ** 0.5 * lr
                p.mul_(1 - lr * group["decay"]).add_(update, alpha=-scale)

    def _mine(self, momenta: list[Tensor]) -> dict[int, Tensor]:
        """Orthogonalise this process's share; equal shapes are stacked into one batch."""
        shapes: dict[torch.Size, list[int]] = defaultdict(list)
        for i in range(self.team.rank, len(momenta), self.team.size):
            shapes[momenta[i].shape].append(i)
        mine: dict[int, Tensor] = {}
        for places in shapes.values():
            mine.update(
                zip(places, orthogonalise(torch.stack([momenta[i] for i in places])), strict=True)
            )
        return mine

    def _momentum(self, p: Tensor, momentum: float) -> Tensor:
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        assert p.grad is not None
        state["momentum"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(state["momentum"], momentum)


def make(
    model: torch.nn.Module, muon_lr: float, adam_lr: float, team: Team
) -> list[torch.optim.Optimizer]:
    """The two optimizers for one model."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    adam = torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return [Muon(matrices, muon_lr, team), adam]
