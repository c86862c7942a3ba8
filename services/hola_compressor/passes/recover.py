"""After pruning: LoRA adapters trained by distillation from the original, merged at the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import peft
import torch
from torch import nn
from torch.nn import functional as F

from hola.compression.plan import Recover
from hola_compressor.passes.prune import ATTENTION, FFN
from hola_compressor.passes.text import Row, padded


def recovered(
    model: Any,
    teacher: nn.Module,
    rows: Sequence[Row],
    *,
    options: Recover,
    seed: int,
    step_done: Callable[[int, float], None],
) -> nn.Module:
    """Train adapters (arXiv 2106.09685) on KL to the teacher's logits; returns the merged model.

    `model` is changed. Deterministic for a seed.
    """
    torch.manual_seed(seed)
    config = peft.LoraConfig(
        r=options.rank, lora_alpha=2 * options.rank, target_modules=[*FFN, *ATTENTION]
    )
    adapted = peft.get_peft_model(model, config)
    trained = [p for p in adapted.parameters() if p.requires_grad]
    for name, parameter in adapted.named_parameters():
        if "norm" in name:  # merged as they are, and cheap
            parameter.requires_grad_(True)
            trained.append(parameter)
    optimizer = torch.optim.AdamW(trained, lr=options.rate, weight_decay=0.0, betas=(0.9, 0.95))
    order = random.Random(seed)
    for step in range(options.steps):
        ids, known = padded(order.sample(list(rows), min(options.rows, len(rows))))
        with torch.no_grad():
            wanted = teacher(input_ids=ids, use_cache=False).logits[:, :-1][known]
        found = adapted(input_ids=ids, use_cache=False).logits[:, :-1][known]
        loss = F.kl_div(
            found.log_softmax(-1), wanted.log_softmax(-1), log_target=True, reduction="batchmean"
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * pace(step / options.steps)
        optimizer.step()
        step_done(step + 1, loss.item())
    merged: nn.Module = adapted.merge_and_unload()
    return merged.eval().requires_grad_(False)


def pace(progress: float) -> float:
    """Learning-rate factor: up in the first twentieth, then down to nothing."""
    return min(20 * progress + 0.05, 1.0) * (1 - progress)
