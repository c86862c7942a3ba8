"""What the passes that train have in common: batches, half precision where it pays, the loss."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import peft
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hola_compressor.passes.text import Row, padded, rows_at_once

FFN = ("gate_proj", "up_proj", "down_proj")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def half_where_fast() -> torch.autocast:
    """bfloat16 products on processors with matrix units for it (AMX), fp32 elsewhere."""
    fast = bool(torch.cpu._is_amx_tile_supported())
    return torch.autocast("cpu", torch.bfloat16, enabled=fast)


def adapted(model: Any, rank: int, alpha: int) -> Any:
    """The model with LoRA adapters (arXiv 2106.09685) on all projections; only they are trained."""
    options = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=[*FFN, *ATTENTION])
    with warnings.catch_warnings():  # of peft about names in transformers
        warnings.simplefilter("ignore", FutureWarning)
        return peft.get_peft_model(model, options)


def draw(
    order: Random, rows: Sequence[Row], count: int, vocabulary: int
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """A batch of so many rows, or of all, in parts whose logits fit; see `text.rows_at_once`.

    Each part is its share of the batch's tokens and what `text.padded` gives: means over the parts
    times their shares add up to the batch's, and so do gradients.
    """
    ids, known = padded(order.sample(list(rows), min(count, len(rows))))
    size, tokens = rows_at_once(ids.shape[1], vocabulary, len(ids)), int(known.sum())
    for part, seen in zip(torch.split(ids, size), torch.split(known, size), strict=True):
        if here := int(seen.sum()):
            yield here / tokens, part, seen


@torch.no_grad()
def answers(teacher: nn.Module, ids: Tensor, known: Tensor) -> Tensor:
    """The teacher's log-probabilities where the next token is known, fp32 [n, vocabulary]."""
    with half_where_fast():
        logits: Tensor = teacher(input_ids=ids, use_cache=False).logits[:, :-1][known]
    return logits.float().log_softmax(-1)


def divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """KL per token, nats: wanted (log-probabilities) || what the logits [n, vocabulary] say."""
    found = logits.float().log_softmax(-1)
    return F.kl_div(found, wanted, log_target=True, reduction="batchmean")
