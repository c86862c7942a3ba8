"""Enlarges a trained tier so that it computes the same function, with room to learn more."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from tools.tiers.model import SHAPES, Layer, Llama, Shape, load_checkpoint, save_checkpoint


def layer_places(old: int, new: int) -> list[int]:
    """Where the old layers go among the new ones: in order, evenly spread."""
    return [i * new // old for i in range(old)]


def widen_norm(new: Tensor, old: Tensor) -> None:
    """Old dimensions keep their values although the mean now runs over more of them."""
    n = old.shape[0]
    new[:n] = old * (n / new.shape[0]) ** 0.5


def head_rows(old: Shape, new: Shape, *, rotary: bool) -> Tensor:
    """For every row of an old q, k or v projection, its row in the new one.

    With `factor` times larger heads the rotary pair i keeps its frequency as pair factor * i.
    """
    factor = new.head_dim // old.head_dim
    dims = torch.arange(old.head_dim)
    if rotary:
        half = old.head_dim // 2
        dims = torch.where(dims < half, dims * factor, (dims - half) * factor + new.head_dim // 2)
    return (torch.arange(old.heads)[:, None] * new.head_dim + dims).flatten()


def widen_attention(new: Layer, old: Layer, small: Shape, large: Shape) -> None:
    """Old heads go first; what new heads say is ignored until it is learned."""
    rotary = head_rows(small, large, rotary=True)
    values = head_rows(small, large, rotary=False)
    used = small.heads * large.head_dim
    scale = (large.head_dim / small.head_dim) ** 0.5
    pairs = (("q_proj", rotary, scale), ("k_proj", rotary, 1.0), ("v_proj", values, 1.0))
    for name, rows, factor in pairs:
        source = getattr(old.self_attn, name).weight
        target = getattr(new.self_attn, name).weight
        if large.head_dim != small.head_dim:
            target[:used] = 0
        target[rows, : small.hidden] = source * factor
    new.self_attn.o_proj.weight.zero_()
    columns = torch.zeros(small.hidden, new.self_attn.o_proj.weight.shape[1])
    columns[:, values] = old.self_attn.o_proj.weight
    new.self_attn.o_proj.weight[: small.hidden] = columns


def widen_layer(new: Layer, old: Layer, small: Shape, large: Shape) -> None:
    """Copy one layer into a larger one."""
    widen_norm(new.input_layernorm.weight, old.input_layernorm.weight)
    widen_norm(new.post_attention_layernorm.weight, old.post_attention_layernorm.weight)
    widen_attention(new, old, small, large)
    for name in ("gate_proj", "up_proj"):
        getattr(new.mlp, name).weight[: small.mlp, : small.hidden] = getattr(old.mlp, name).weight
    new.mlp.down_proj.weight.zero_()
    new.mlp.down_proj.weight[: small.hidden, : small.mlp] = old.mlp.down_proj.weight


@torch.no_grad()
def enlarge(old: Llama, large: Shape, noise: float = 0.0) -> Llama:
    """The larger model; `noise` breaks the zeros of new embedding columns for training."""
    small = old.shape
    new = Llama(large)
    for name, weight in new.model.layers.named_parameters():
        if name.endswith("layernorm.weight"):
            weight.fill_((small.hidden / large.hidden) ** 0.5)
    source, table = old.model.embed_tokens.weight, new.model.embed_tokens.weight
    table.normal_(std=noise * source.std().item() if noise else 0.0)
    table[:, : small.hidden] = source
    widen_norm(new.model.norm.weight, old.model.norm.weight)
    for i, place in enumerate(layer_places(small.layers, large.layers)):
        target, origin = new.model.layers[place], old.model.layers[i]
        assert isinstance(target, Layer)
        assert isinstance(origin, Layer)
        widen_layer(target, origin, small, large)
    return new


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tier", choices=SHAPES, required=True)
    parser.add_argument("--noise", type=float, default=0.1)
    args = parser.parse_args(arguments)
    torch.manual_seed(0)
    model, stored = load_checkpoint(args.checkpoint)
    grown = enlarge(model, SHAPES[args.tier], args.noise)
    save_checkpoint(grown, args.out, position=stored["position"])


if __name__ == "__main__":
    main()
