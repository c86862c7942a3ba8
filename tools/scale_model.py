"""Makes a real-sized model out of a trained tier that computes the same function.

Wider hidden state, more and larger heads, a wider MLP and extra layers that add nothing: the
cost of the large model with the text, and so the draft acceptance, of the small one.
For timing only; `python -m tools.scale_model models/demo/target out --onnx int8`.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from tools.tiers.export import build_onnx
from tools.tiers.grow import enlarge
from tools.tiers.model import Llama, Shape, count_parameters, load_hf, save_hf

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def large_shape(small: Shape, hidden: int, layers: int, heads: int, mlp: int) -> Shape:
    """The sizes of the large model; eps follows the mean over more dimensions."""
    head_dim = hidden // heads
    if hidden < small.hidden or layers < small.layers or mlp < small.mlp or heads < small.heads:
        raise ValueError("a model can only be enlarged")
    if head_dim % small.head_dim:
        raise ValueError(f"hidden/heads must be a multiple of {small.head_dim}, not {head_dim}")
    return replace(
        small,
        hidden=hidden,
        layers=layers,
        heads=heads,
        mlp=mlp,
        head_dim=head_dim,
        eps=small.eps * small.hidden / hidden,
    )


def scale(source: Path, out: Path, shape: Shape, dtype: torch.dtype) -> Llama:
    """Enlarge a tier directory into another directory."""
    torch.manual_seed(0)
    large = enlarge(load_hf(source), shape)
    save_hf(large, out, dtype)
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, out / name)
    return large


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a tier directory")
    parser.add_argument("out", type=Path)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--mlp", type=int, default=3072)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--onnx", choices=("fp32", "int8", "int4"), help="also export the graph")
    args = parser.parse_args(arguments)
    shape = large_shape(load_hf(args.source).shape, args.hidden, args.layers, args.heads, args.mlp)
    large = scale(args.source, args.out, shape, DTYPES[args.dtype])
    print(f"{count_parameters(large):,} parameters in {args.out}")
    if args.onnx:
        build_onnx(args.out, args.onnx)


if __name__ == "__main__":
    main()
