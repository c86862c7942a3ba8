"""Removing FFN channels, KV-head groups and layers: the same number in every layer.

Equal shapes keep the exported graph's fused attention. What goes is ranked per layer by one of
three saliencies; see `hola.compression.plan.Saliency`.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import MistralConfig, MistralForCausalLM

from hola.compression.plan import Prune, Saliency
from hola.errors import InvalidRequest, UnsupportedArchitecture
from hola_compressor.passes.text import Row, batches, filled, padded, vocabulary_of
from hola_compressor.passes.training import ATTENTION, FFN, adapted, draw, half_where_fast

_MULTIPLE = 32  # of the FFN width: one quantization block
_STEPS, _ROWS, _RANK, _RATE, _MEMORY = 24, 8, 8, 1e-3, 0.8
_TOKENS = 4096
# What a Llama's configuration says and a Mistral's does not.
_OF_A_KIND = ("model_type", "architectures", "attention_bias", "mlp_bias", "pretraining_tp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Indices that stay, per layer: FFN channels and KV-head groups; and layers."""

    channels: tuple[Tensor, ...]
    groups: tuple[Tensor, ...]
    layers: tuple[int, ...]


def pruned(model: Any, options: Prune, rows: Sequence[Row], *, seed: int) -> nn.Module:
    """A smaller model of the same architecture; the one given is not changed.

    Raises UnsupportedArchitecture (layers are not named as Llama's are), InvalidRequest (nothing
    would be left, or no text to rank on).
    """
    check_prunable(model)
    if not rows and (options.saliency is not Saliency.MAGNITUDE or options.layers):
        raise InvalidRequest("pruning needs calibration.train_tokens", field="calibration")
    return cut(model, choose(model, options, rows, seed=seed))


def sizes(config: Any, options: Prune) -> tuple[int, int, int]:
    """How many FFN channels, KV-head groups and layers stay."""
    return (
        min(_rounded(config.intermediate_size * (1 - options.ffn)), config.intermediate_size),
        max(1, round(config.num_key_value_heads * (1 - options.kv_heads))),
        max(1, round(config.num_hidden_layers * (1 - options.layers))),
    )


def choose(model: Any, options: Prune, rows: Sequence[Row], *, seed: int) -> Kept:
    """What stays."""
    config = model.config
    scores = _scores(model, options.saliency, rows, seed)
    width, heads, count = sizes(config, options)
    channels, groups = [], []
    for layer in range(config.num_hidden_layers):
        ffn = sum(scores[f"{layer}.{name}"] for name in FFN)
        channels.append(_best(ffn, width))
        attention = _group_scores(scores, layer, config)
        groups.append(_best(attention, heads))
    return Kept(
        channels=tuple(channels),
        groups=tuple(groups),
        layers=_layers(model, count, rows) if options.layers else tuple(range(len(channels))),
    )


def cut(model: Any, kept: Kept) -> nn.Module:
    """The model with only what is kept."""
    old = model.config
    size = _head_size(old)
    per_group = old.num_attention_heads // old.num_key_value_heads
    config = copy.deepcopy(old)
    config.intermediate_size = len(kept.channels[0])
    config.num_key_value_heads = len(kept.groups[0])
    config.num_attention_heads = per_group * config.num_key_value_heads
    config.num_hidden_layers = len(kept.layers)
    config.head_dim = size
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[layer] for layer in kept.layers]
    small = _empty(model, config).float().eval().requires_grad_(False)
    state = model.state_dict()
    for new, layer in enumerate(kept.layers):
        prefix = f"model.layers.{layer}."
        own = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        for name in list(own):
            own[name] = _part(name, own[name], kept, layer, per_group, size)
        small.model.layers[new].load_state_dict(own)
    rest = {k: v for k, v in state.items() if not k.startswith("model.layers.")}
    small.load_state_dict(rest, strict=False)
    built: nn.Module = small
    return built


def _empty(model: Any, config: Any) -> Any:
    """A model of this configuration, of the same kind where its library allows the shape.

    transformers refuses a Llama whose hidden size is no multiple of its heads, although its heads
    have a size of their own. Mistral without a window is the same arithmetic without that rule.
    """
    try:
        type(config).from_dict(config.to_dict())
    except Exception as error:  # transformers' own; it says what it does not like
        if config.model_type != "llama" or config.attention_bias or config.mlp_bias:
            reason = str(error).splitlines()[-1].strip()
            raise InvalidRequest(
                f"a {config.model_type} cannot keep {config.num_attention_heads} of"
                f" {model.config.num_attention_heads} heads ({reason}): take other kv_heads",
                field="prune",
            ) from error
        same = {k: v for k, v in config.to_dict().items() if k not in _OF_A_KIND}
        config = MistralConfig(**same, sliding_window=None)
        return MistralForCausalLM(config)
    return type(model)(config)


def _part(name: str, value: Tensor, kept: Kept, layer: int, per_group: int, size: int) -> Tensor:
    """The rows or columns of one tensor that stay."""
    channels, groups = kept.channels[layer], kept.groups[layer]
    kv = _spread(groups, size)
    q = _spread(groups, size * per_group)
    module = name.split(".")[-2]
    if module in ("gate_proj", "up_proj"):
        return value[channels]
    if module == "down_proj" and value.dim() == 2:
        return value[:, channels]
    if module == "q_proj":
        return value[q]
    if module in ("k_proj", "v_proj"):
        return value[kv]
    if module == "o_proj" and value.dim() == 2:
        return value[:, q]
    return value


def _spread(groups: Tensor, size: int) -> Tensor:
    return (groups[:, None] * size + torch.arange(size)[None]).flatten()


def _scores(model: Any, saliency: Saliency, rows: Sequence[Row], seed: int) -> dict[str, Tensor]:
    """Per layer and projection, the summed saliency of each output row (input column for the
    projections back into the stream), named "3.up_proj"."""
    if saliency is Saliency.LORA:
        matrices = _lora(model, rows, seed)
    elif saliency is Saliency.WANDA:
        matrices = _wanda(model, rows)
    else:
        matrices = {k: w.square() for k, w in _weights(model).items()}
    return {
        key: value.sum(0 if key.endswith(("down_proj", "o_proj")) else 1)
        for key, value in matrices.items()
    }


def _weights(model: Any) -> dict[str, Tensor]:
    layers = _projections(model.model.layers)
    return {key: layer.weight.detach().float() for key, layer in layers.items()}


def _projections(layers: Any) -> dict[str, Any]:
    """Every projection of a model's layers, named "3.up_proj"."""
    return {
        f"{number}.{name}": getattr(part, name)
        for number, layer in enumerate(layers)
        for part, names in ((layer.mlp, FFN), (layer.self_attn, ATTENTION))
        for name in names
    }


@torch.no_grad()
def _wanda(model: Any, rows: Sequence[Row]) -> dict[str, Tensor]:
    """(|weight| times the norm of its input) squared."""
    norms: dict[str, Tensor] = {}
    text = torch.ones(0, dtype=torch.bool)

    def watch(key: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, x: tuple[Tensor, ...], __: Tensor) -> None:
            found = x[0].flatten(0, -2)[text].square().sum(0)
            norms[key] = norms.get(key, torch.zeros(())) + found

        return hook

    hooks = [
        layer.register_forward_hook(watch(key))
        for key, layer in _projections(model.model.layers).items()
    ]
    for ids, known in batches(_some(rows), vocabulary=1):  # no logits are made
        text = filled(known).flatten()
        model.model(input_ids=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return {key: w.square() * norms[key][None] for key, w in _weights(model).items()}


def _lora(model: Any, rows: Sequence[Row], seed: int) -> dict[str, Tensor]:
    """(weight times its gradient as LoRA's factors know it) squared, a moving average over steps.

    With W + B A, the gradient of W is close to gB A + B gA - gB gA, so none of W's own is needed
    (LoRAPrune, arXiv 2305.18403, eq. 9).
    """
    torch.manual_seed(seed)
    student = adapted(copy.deepcopy(model), _RANK, _RANK)
    optimizer = torch.optim.AdamW(
        [p for p in student.parameters() if p.requires_grad], lr=_RATE, weight_decay=0.0
    )
    order = random.Random(seed)
    found: dict[str, Tensor] = {}
    for _ in range(_STEPS):
        optimizer.zero_grad(set_to_none=True)
        for share, ids, known in draw(order, rows, _ROWS, vocabulary_of(model)):
            with half_where_fast():
                logits = student(input_ids=ids, use_cache=False).logits[:, :-1][known]
            loss = share * F.cross_entropy(logits.float(), ids[:, 1:][known])
            loss.backward()  # type: ignore[no-untyped-call]
        for key, layer in _projections(student.base_model.model.model.layers).items():
            now = _lora_saliency(layer)
            found[key] = _MEMORY * found.get(key, now) + (1 - _MEMORY) * now
        optimizer.step()
    return found


def _lora_saliency(layer: Any) -> Tensor:
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        gradient = b.grad @ a + b @ a.grad - b.grad @ a.grad
        whole = layer.base_layer.weight + b @ a
        saliency: Tensor = (gradient * whole).square()
    return saliency


def _group_scores(scores: dict[str, Tensor], layer: int, config: Any) -> Tensor:
    groups = config.num_key_value_heads
    return sum(  # type: ignore[return-value]
        scores[f"{layer}.{name}"].reshape(groups, -1).sum(1) for name in ATTENTION
    )


@torch.no_grad()
def _layers(model: Any, count: int, rows: Sequence[Row]) -> tuple[int, ...]:
    """Layers that change their input's direction most (ShortGPT, arXiv 2403.03853)."""
    ids, known = padded(list(rows)[:16])
    text, last = filled(known), []
    # What a model calls its last hidden state stands behind the final norm.
    hook = model.model.norm.register_forward_pre_hook(lambda _, x: last.append(x[0]))
    answer = model.model(input_ids=ids, use_cache=False, output_hidden_states=True)
    hook.remove()
    change = [
        1 - F.cosine_similarity(before[text], after[text], dim=-1).mean()
        for before, after in pairwise([*answer.hidden_states[:-1], *last])
    ]
    return tuple(_best(torch.stack(change), count).tolist())


def _best(scores: Any, count: int) -> Tensor:
    """Indices of the highest scores, rising; equal scores keep the lower index."""
    order = torch.sort(scores, descending=True, stable=True).indices[:count]
    return order.sort().values


def _rounded(width: float) -> int:
    return max(_MULTIPLE, round(width / _MULTIPLE) * _MULTIPLE)


def _some(rows: Sequence[Row]) -> list[Row]:
    total, found = 0, []
    for row in rows:
        if total >= _TOKENS:
            break
        found.append(row)
        total += len(row)
    return found


def _head_size(config: Any) -> int:
    size = getattr(config, "head_dim", None)
    return int(size or config.hidden_size // config.num_attention_heads)


def check_prunable(model: Any) -> None:
    """Raises UnsupportedArchitecture where layers are not named as Llama's are."""
    try:
        if not isinstance(model.model.norm, nn.Module):
            raise AttributeError("norm")
        for layer in model.model.layers:
            for part, names in ((layer.mlp, FFN), (layer.self_attn, ATTENTION)):
                for name in names:
                    if not isinstance(getattr(part, name), nn.Linear):
                        raise AttributeError(name)
    except AttributeError as error:
        raise UnsupportedArchitecture(
            f"{model.config.model_type} has no {error}: pruning knows layers named as Llama's are;"
            " leave prune out of the plan",
            architecture=model.config.model_type,
        ) from error
