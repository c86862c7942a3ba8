"""What passes learn of a model's inputs: of the text alone, however its rows are batched."""

from __future__ import annotations

from itertools import pairwise

import pytest

pytestmark = pytest.mark.torch

SHORT, LONG = [5, 9, 30], [*range(40, 90)]


@pytest.fixture(scope="module")
def model(checkpoint):
    from hola_compressor.passes.source import load_model

    return load_model(checkpoint)


@pytest.fixture
def one_by_one(monkeypatch):
    """Switches to batches of one row, which need no padding."""
    from hola_compressor.passes import damage, prune, text

    def switch() -> None:
        for module in (damage, prune):
            monkeypatch.setattr(
                module, "batches", lambda rows, vocabulary: text.batches(rows, vocabulary, 1)
            )

    return switch


def test_moments_are_those_of_the_text_without_padding(model, graph, one_by_one):
    import torch

    from hola_compressor.passes.damage import statistics
    from hola_compressor.passes.graph import find_units, load_graph

    units = find_units(load_graph(graph), model)
    together = statistics(model, units, [SHORT, LONG], seed=0)
    one_by_one()
    alone = statistics(model, units, [SHORT, LONG], seed=0)
    for unit in units:
        torch.testing.assert_close(together[unit.name].moments, alone[unit.name].moments)


def test_importance_of_channels_is_that_of_the_text_without_padding(model, one_by_one):
    import torch

    from hola_compressor.passes.prune import _wanda

    together = _wanda(model, [SHORT, LONG])
    one_by_one()
    alone = _wanda(model, [SHORT, LONG])
    for key, value in together.items():
        torch.testing.assert_close(value, alone[key])


def test_layers_go_by_what_they_do_before_the_final_norm(model):
    """A norm that turns everything round says nothing of the last layer."""
    import copy

    import torch
    from torch.nn.functional import cosine_similarity

    from hola.compression.plan import Prune
    from hola_compressor.passes.prune import choose

    turned = copy.deepcopy(model)
    turned.model.norm.weight.data.neg_()
    ids = torch.tensor([LONG])
    seen = []
    hooks = [layer.register_forward_hook(lambda _, x, y: seen.append((x[0], y)))
             for layer in turned.model.layers]  # fmt: skip
    with torch.no_grad():
        turned(input_ids=ids)
    for hook in hooks:
        hook.remove()
    change = [1 - cosine_similarity(x, y, dim=-1).mean() for x, y in seen]
    assert all(a != b for a, b in pairwise(change))
    best = max(range(len(change)), key=lambda layer: change[layer])
    kept = choose(turned, Prune(layers=0.5, saliency="magnitude"), [LONG, SHORT], seed=0)
    assert kept.layers == (best,)


def test_texts_of_a_model_whose_first_token_is_its_last(model, checkpoint):
    """They begin with what also ends them."""
    from dataclasses import replace

    from hola.compression.plan import Calibration
    from hola_compressor.passes.source import open_checkpoint
    from hola_compressor.passes.text import calibration_text

    opened = open_checkpoint(checkpoint)
    opened.config.bos_token_id = opened.config.eos_token_id = 7
    heard = []
    text = calibration_text(
        Calibration(tokens=600, train_tokens=0, window=32), replace(opened), model, seed=0,
        written_share=heard.append,
    )  # fmt: skip
    rows = text.measured
    assert all(row[0] == 7 and 2 <= len(row) <= 32 for row in rows)
    assert all(7 not in row[1:-1] for row in rows)
    assert any(row[-1] == 7 for row in rows) or all(len(row) == 32 for row in rows)
    assert heard[-1] == 1.0
