"""After pruning: LoRA adapters trained by distillation from the original, merged at the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from hola.compression.plan import Recover
from hola_compressor.passes.text import Row
from hola_compressor.passes.training import adapted, answers, divergence, draw, half_where_fast


def recovered(
    model: Any,
    teacher: nn.Module,
    rows: Sequence[Row],
    *,
    options: Recover,
    seed: int,
    step_done: Callable[[int, float], None],
) -> nn.Module:
    """Train adapters on KL to the teacher's logits; returns the merged model.

    `model` is changed. Deterministic for a seed.
    """
    torch.manual_seed(seed)
    student = adapted(model, options.rank, 2 * options.rank)
    trained = [p for p in student.parameters() if p.requires_grad]
    for name, parameter in student.named_parameters():
        if "norm" in name:  # merged as they are, and cheap
            parameter.requires_grad_(True)
            trained.append(parameter)
    optimizer = torch.optim.AdamW(trained, lr=options.rate, weight_decay=0.0, betas=(0.9, 0.95))
    order = random.Random(seed)
    for step in range(options.steps):
        ids, known = draw(order, rows, options.rows)
        wanted = answers(teacher, ids, known)
        with half_where_fast():
            found = student(input_ids=ids, use_cache=False).logits[:, :-1][known]
        loss = divergence(found, wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * pace(step / options.steps)
        optimizer.step()
        step_done(step + 1, loss.item())
    merged: nn.Module = student.merge_and_unload()
    return merged.eval().requires_grad_(False)


def pace(progress: float) -> float:
    """Learning-rate factor: up in the first twentieth, then down to nothing."""
    return min(20 * progress + 0.05, 1.0) * (1 - progress)
