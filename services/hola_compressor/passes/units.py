"""The matrices that get options of their own, and a model whose matrices can be exchanged.

A unit is what the exported graph multiplies by at once: query, key and value together, since one
node computes all three. Its rows are those of one or several linear layers, one after another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

HEAD = "lm_head"
_LAYER = re.compile(r"\.layers\.(\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """`layers` are names of linear layers (or of the embedding) whose rows make it up.

    `node` names the graph's node. `embeds` is set where the rows are also looked up by token.
    """

    name: str
    node: str
    layers: tuple[str, ...]
    rows: int
    columns: int
    embeds: bool = False
    multiplies: bool = True

    @property
    def layer(self) -> int:
        """Number of the decoder layer, -1 outside."""
        found = _LAYER.search("." + self.layers[0])
        return int(found[1]) if found else -1

    @property
    def kind(self) -> str:
        """Last part of the name: qkv_proj, down_proj, lm_head."""
        return self.name.rpartition(".")[2]


def weight_of(model: nn.Module, unit: Unit) -> Tensor:
    """The unit's matrix [rows, columns], a copy."""
    return torch.cat([parameter(model, name).detach() for name in unit.layers]).float()


def parameter(model: nn.Module, layer: str) -> Tensor:
    """The weight [rows, columns] of a linear layer or an embedding."""
    weight = model.get_submodule(layer).weight
    assert isinstance(weight, Tensor)
    return weight


def put_weight(model: nn.Module, unit: Unit, weight: Tensor) -> None:
    """Write the unit's matrix into the model's own parameters."""
    start = 0
    with torch.no_grad():
        for name in unit.layers:
            own = parameter(model, name)
            rows = own.shape[0]
            own.copy_(weight[start : start + rows])
            start += rows


@contextmanager
def exchanged(model: nn.Module, unit: Unit, weight: Tensor) -> Iterator[None]:
    """The model with another matrix in the unit's place."""
    before = weight_of(model, unit)
    put_weight(model, unit, weight)
    try:
        yield
    finally:
        put_weight(model, unit, before)
