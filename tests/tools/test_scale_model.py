"""An enlarged model computes the same function as the tier it came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tools import scale_model
from tools.tiers import grow, model

pytestmark = pytest.mark.torch

SMALL = model.SHAPES["smoke-mid"]


def trained_looking(shape: model.Shape) -> model.Llama:
    """A model none of whose weights is zero or one."""
    torch.manual_seed(1)
    small = model.Llama(shape)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return small


def logits(llama: model.Llama, ids: torch.Tensor) -> torch.Tensor:
    width = ids.shape[1]
    mask = torch.ones(width, width, dtype=torch.bool).tril()[None, None]
    with torch.no_grad():
        return llama(ids, mask)


@pytest.mark.parametrize(
    ("hidden", "layers", "heads", "mlp"),
    [(96, 2, 6, 96), (96, 5, 3, 160), (128, 3, 4, 96), (192, 2, 6, 200)],
)
def test_logits_and_greedy_output_stay_the_same(
    hidden: int, layers: int, heads: int, mlp: int
) -> None:
    small = trained_looking(SMALL)
    shape = scale_model.large_shape(SMALL, hidden, layers, heads, mlp)
    large = grow.enlarge(small, shape)
    ids = torch.randint(0, SMALL.vocab, (3, 40))
    before, after = logits(small, ids), logits(large, ids)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    assert torch.equal(after.argmax(-1), before.argmax(-1))


def test_extra_layers_are_not_empty() -> None:
    shape = scale_model.large_shape(SMALL, 96, 4, 6, 96)
    large = grow.enlarge(trained_looking(SMALL), shape)
    old = grow.layer_places(SMALL.layers, 4)
    extra = [layer for i, layer in enumerate(large.model.layers) if i not in old]
    assert len(extra) == 2
    for layer in extra:
        assert layer.self_attn.q_proj.weight.abs().mean() > 0.01
        assert layer.mlp.up_proj.weight.abs().mean() > 0.01
        assert not layer.mlp.down_proj.weight.any()


def test_a_directory_can_be_scaled(tmp_path: Path) -> None:
    small = trained_looking(SMALL)
    model.save_hf(small, tmp_path / "small", torch.float32)
    for name in scale_model.TOKENIZER_FILES:
        (tmp_path / "small" / name).write_text("{}")
    scale_model.main(
        [
            str(tmp_path / "small"),
            str(tmp_path / "large"),
            "--hidden",
            "96",
            "--layers",
            "3",
            "--heads",
            "6",
            "--mlp",
            "96",
        ]
    )
    ids = torch.randint(0, SMALL.vocab, (1, 30))
    large = model.load_hf(tmp_path / "large")
    torch.testing.assert_close(logits(large, ids), logits(small, ids), rtol=1e-4, atol=1e-4)


def test_shrinking_is_refused() -> None:
    with pytest.raises(ValueError, match="only be enlarged"):
        scale_model.large_shape(SMALL, 32, 2, 2, 96)
    with pytest.raises(ValueError, match="multiple"):
        scale_model.large_shape(SMALL, 96, 2, 4, 96)
