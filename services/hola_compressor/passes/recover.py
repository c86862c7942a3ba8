"""After pruning: LoRA adapters, or all weights, trained by distillation from the original."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from hola.compression.plan import Recover
from hola_compressor.passes.text import Row, vocabulary_of
from hola_compressor.passes.training import adapted, answers, divergence, draw, half_where_fast


def recovered(
    model: Any,
    teacher: nn.Module,
    rows: Sequence[Row],
    *,
    options: Recover,
    rank: int,
    seed: int,
    step_done: Callable[[int, float], None],
) -> nn.Module:
    """Train adapters on KL to the teacher's logits; returns the merged model.

    `rank` 0 trains all weights. `model` is changed. Deterministic for a seed.
    """
    torch.manual_seed(seed)
    student = adapted(model, rank, 2 * rank) if rank else model
    for name, parameter in student.named_parameters():
        if not rank or "norm" in name:  # norms are merged as they are, and cheap
            parameter.requires_grad_(True)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    top = options.rate if rank else options.rate / 2
    optimizer = torch.optim.AdamW(trained, lr=top, weight_decay=0.0, betas=(0.9, 0.95))
    order = random.Random(seed)
    for step in range(options.steps):
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for share, ids, known in draw(order, rows, options.rows, vocabulary_of(teacher)):
            wanted = answers(teacher, ids, known)
            with half_where_fast():
                found = student(input_ids=ids, use_cache=False).logits[:, :-1][known]
            loss = share * divergence(found, wanted)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = top * pace(step / options.steps)
        optimizer.step()
        step_done(step + 1, total)
    merged: nn.Module = student.merge_and_unload() if rank else student
    return merged.eval().requires_grad_(False)


def pace(progress: float) -> float:
    """Learning-rate factor: up in the first twentieth, then down to nothing."""
    return min(20 * progress + 0.05, 1.0) * (1 - progress)
