"""A plain Llama in torch whose parameters carry the names Hugging Face uses."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tools.tiers import tokenizer as vocabulary


@dataclass(frozen=True)
class Shape:
    """The sizes of one tier."""

    hidden: int
    layers: int
    heads: int
    mlp: int
    head_dim: int = 32
    vocab: int = vocabulary.VOCAB_SIZE
    eps: float = 1e-5
    theta: float = 10_000.0


SHAPES = {
    "draft": Shape(hidden=128, layers=3, heads=4, mlp=384),
    "mid": Shape(hidden=256, layers=4, heads=8, mlp=704),
    "target": Shape(hidden=384, layers=7, heads=12, mlp=1024),
    "smoke-draft": Shape(hidden=32, layers=1, heads=2, mlp=64, head_dim=16),
    "smoke-mid": Shape(hidden=48, layers=2, heads=3, mlp=96, head_dim=16),
    "smoke-target": Shape(hidden=64, layers=3, heads=4, mlp=128, head_dim=16),
}


class Norm(nn.Module):
    """RMS normalisation."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, halves convention."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.head_dim = shape.heads, shape.head_dim
        inner = shape.heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, inner, bias=False)
        self.k_proj = nn.Linear(shape.hidden, inner, bias=False)
        self.v_proj = nn.Linear(shape.hidden, inner, bias=False)
        self.o_proj = nn.Linear(inner, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        b, t, _ = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(b, t, self.heads, self.head_dim).transpose(1, 2)

        q = rotate(split(self.q_proj(x)), cos, sin)
        k = rotate(split(self.k_proj(x)), cos, sin)
        out = F.scaled_dot_product_attention(q, k, split(self.v_proj(x)), attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).reshape(b, t, -1))


class Mlp(nn.Module):
    """Gated feed-forward part."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.down_proj = nn.Linear(shape.mlp, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden, shape.eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden, shape.eps)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Everything up to the final norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.cos: Tensor
        self.sin: Tensor
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.eps)
        steps = torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
        angles = torch.outer(torch.arange(vocabulary.CONTEXT).float(), shape.theta**-steps)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embed_tokens(ids)
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.bfloat16)
        cos, sin = (c[: ids.shape[1]].to(x.dtype) for c in (self.cos, self.sin))
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.norm(x)


class Llama(nn.Module):
    """The language model; the output layer shares the embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Trunk(shape)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                zero = name.endswith(("o_proj.weight", "down_proj.weight"))
                std = 0.0 if zero else 0.02 if "embed" in name else parameter.shape[1] ** -0.5
                nn.init.normal_(parameter, std=std)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.model.embed_tokens.weight)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.logits(self.model(ids, mask))


def hf_config(shape: Shape) -> dict[str, object]:
    """config.json as transformers reads it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": shape.eps,
        "rope_theta": shape.theta,
        "max_position_embeddings": vocabulary.CONTEXT,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": vocabulary.BOS_ID,
        "eos_token_id": vocabulary.EOS_ID,
        "pad_token_id": vocabulary.PAD_ID,
        "use_cache": True,
    }


def save_hf(model: Llama, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write config.json, generation_config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    generation = {
        "bos_token_id": vocabulary.BOS_ID,
        "eos_token_id": vocabulary.EOS_ID,
        "pad_token_id": vocabulary.PAD_ID,
        "do_sample": False,
    }
    for name, content in (("config", hf_config(model.shape)), ("generation_config", generation)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    state = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})


def load_hf(folder: Path) -> Llama:
    """Read a tier directory back as fp32."""
    c = json.loads((folder / "config.json").read_text())
    shape = Shape(
        hidden=c["hidden_size"],
        layers=c["num_hidden_layers"],
        heads=c["num_attention_heads"],
        mlp=c["intermediate_size"],
        head_dim=c["head_dim"],
        vocab=c["vocab_size"],
        eps=c["rms_norm_eps"],
        theta=c["rope_theta"],
    )
    model = Llama(shape)
    state = {k: v.float() for k, v in load_file(str(folder / "model.safetensors")).items()}
    model.load_state_dict(state)
    return model


def save_checkpoint(model: Llama, path: Path, **more: object) -> None:
    """Write a resumable checkpoint in one step."""
    part = path.with_suffix(".part")
    torch.save({"shape": asdict(model.shape), "model": model.state_dict(), **more}, part)
    part.replace(path)


def load_checkpoint(path: Path) -> tuple[Llama, dict]:
    """Read a checkpoint: the model and everything stored beside it."""
    stored = torch.load(path, weights_only=False)
    model = Llama(Shape(**stored.pop("shape")))
    model.load_state_dict(stored.pop("model"))
    return model, stored


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
