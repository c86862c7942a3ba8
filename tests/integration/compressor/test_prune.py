"""Removing heads: what stays computes what it did, in shapes that transformers can load."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch

IDS = [[1, 5, 9, 30, 77, 200, 4, 12]]


@pytest.fixture
def llama(tmp_path):
    """Four heads of 16: three of them do not divide the hidden size of 64."""
    from hola_compressor.passes.source import load_model
    from tests.support.tiny_models import write_checkpoint

    write_checkpoint(tmp_path / "whole", num_key_value_heads=4)
    return load_model(tmp_path / "whole")


def kept(model, groups: list[int]):
    import torch

    from hola_compressor.passes.prune import Kept

    layers = range(model.config.num_hidden_layers)
    return Kept(
        channels=tuple(torch.arange(model.config.intermediate_size) for _ in layers),
        groups=tuple(torch.tensor(groups) for _ in layers),
        layers=tuple(layers),
    )


@pytest.mark.parametrize("groups", [[0, 1, 3], [2], [1, 2], [0, 1, 2, 3]])
def test_the_heads_that_stay_compute_what_they_did(llama, tmp_path, groups):
    import torch

    from hola_compressor.passes.prune import cut
    from hola_compressor.passes.source import load_model, save_model

    save_model(cut(llama, kept(llama, groups)), tmp_path / "whole", tmp_path / "small")
    small = load_model(tmp_path / "small")
    assert small.config.num_attention_heads == len(groups)
    for layer in llama.model.layers:  # a head that is not heard is as good as removed
        for head in set(range(4)) - set(groups):
            layer.self_attn.o_proj.weight[:, head * 16 : (head + 1) * 16] = 0
    ids = torch.tensor(IDS)
    with torch.no_grad():
        torch.testing.assert_close(small(ids).logits, llama(ids).logits)


def test_a_count_that_no_kind_allows_is_said(llama):
    from hola.errors import InvalidRequest
    from hola_compressor.passes.prune import cut

    llama.config.attention_bias = True
    with pytest.raises(InvalidRequest, match=r"cannot keep 3 of 4 heads .* other kv_heads"):
        cut(llama, kept(llama, [0, 1, 2]))
