"""Codes against the kernels: what is stored is what onnxruntime multiplies by."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]
WIDTHS = (2, 3, 4, 5, 6, 8)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("block", [32, 64, 128])
def test_bytes_are_counted_exactly(bits, block):
    import torch

    from hola_compressor.passes.codes import Scheme, encode
    from hola_compressor.passes.nodes import Nodes

    weight = torch.randn(24, 200, generator=torch.Generator().manual_seed(bits))
    for symmetric in (True, False):
        scheme = Scheme(bits=bits, block=block, symmetric=symmetric)
        made = Nodes(prefix="x")
        with made.collected():
            made.store(encode(weight, scheme))
        stored = sum(v.nbytes for k, v in made.weights.items() if k.startswith("x."))
        assert stored == scheme.disk_bytes(*weight.shape)


@pytest.mark.parametrize("bits", WIDTHS)
def test_compensation_lowers_the_error_of_the_output(bits):
    import torch

    from hola_compressor.passes.codes import Scheme, encode
    from hola_compressor.passes.compensate import compensated

    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(96, 96, generator=generator)
    x = torch.randn(4000, 96, generator=generator) @ mixing
    weight = torch.randn(64, 96, generator=generator)
    moments = x.T @ x / len(x)
    scheme = Scheme(bits=bits, block=32)

    def error(dense: torch.Tensor) -> float:
        change = dense - weight
        return float(((change @ moments) * change).sum())

    plain = error(encode(weight, scheme, moments.diagonal()).dense())
    assert error(compensated(weight, scheme, moments).dense()) < plain


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_the_graph_computes_what_the_codes_stand_for(architecture, bits, tmp_path_factory):
    """With fp32 activations the logits are the simulation's; with 8-bit ones, close; both exact."""
    import torch

    from hola.engines.fingerprint import probe
    from hola.engines.onnx import OnnxEngine
    from hola_compressor.passes.codes import Scheme, encode
    from hola_compressor.passes.graph import find_units, load_graph, write_graph
    from hola_compressor.passes.source import load_model
    from hola_compressor.passes.units import put_weight, weight_of

    root = tmp_path_factory.getbasetemp() / "graphs"
    checkpoint, graph_folder = _exported(root, architecture)
    model, graph = load_model(checkpoint), load_graph(graph_folder)
    units = find_units(graph, model)
    scheme = Scheme(bits=bits, block=32 if bits % 2 else 64, symmetric=bits in (3, 4, 6))
    codes = {unit.name: encode(weight_of(model, unit), scheme) for unit in units}
    for unit in units:
        put_weight(model, unit, codes[unit.name].dense())
    ids = [(7 * at) % 300 + 3 for at in range(40)]
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([ids])).logits[0].numpy()
    for level, tolerance in ((0, 1e-4), (4, 0.15)):
        folder = tmp_path_factory.mktemp("artifact")
        write_graph(graph, units, codes, folder, accuracy_level=level)
        config = json.loads((graph_folder / "genai_config.json").read_text())
        (folder / "genai_config.json").write_text(json.dumps(config))
        engine = OnnxEngine(folder, threads=1)
        try:
            session = engine.open(len(ids))
            got = session.forward(ids)
            assert np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max()
            assert probe(engine).exact
        finally:
            engine.close()


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("bits", [*WIDTHS, 16, "all"])
def test_a_file_is_never_larger_than_was_counted(architecture, bits, tmp_path_factory):
    """So a budget holds, also for a model of few tensors that uses every table there is."""
    import itertools

    from hola_compressor.passes.codes import Scheme, encode
    from hola_compressor.passes.graph import (
        find_units,
        fixed_bytes,
        half,
        load_graph,
        write_graph,
    )
    from hola_compressor.passes.nodes import tables_bytes
    from hola_compressor.passes.source import load_model
    from hola_compressor.passes.units import weight_of

    checkpoint, graph_folder = _exported(tmp_path_factory.getbasetemp() / "graphs", architecture)
    model, graph = load_model(checkpoint), load_graph(graph_folder)
    units = find_units(graph, model)
    widths = (3, 5, 6) if bits == "all" else (bits,)
    for block in (32, 64, 128):
        options = itertools.cycle(
            Scheme(bits=width, block=block, symmetric=symmetric)
            for width in widths
            for symmetric in (False, True)
        )
        schemes = dict(zip(units, options, strict=False))
        weights = {unit: weight_of(model, unit) for unit in units}
        codes = {
            unit.name: half(weights[unit]) if bits == 16 else encode(weights[unit], scheme)
            for unit, scheme in schemes.items()
        }
        folder = tmp_path_factory.mktemp("counted")
        write_graph(graph, units, codes, folder, accuracy_level=4)
        counted = fixed_bytes(graph, units) + tables_bytes(schemes.values())
        for unit, scheme in schemes.items():
            counted += scheme.disk_bytes(unit.rows, unit.columns) + scheme.graph_bytes
        written = sum(file.stat().st_size for file in folder.iterdir())
        assert written <= counted


def _exported(root, architecture):
    from tests.support.tiny_models import export, write_checkpoint

    checkpoint, folder = root / architecture, root / f"{architecture}-fp32"
    if not folder.is_dir():
        root.mkdir(exist_ok=True)
        write_checkpoint(checkpoint, architecture, tie_word_embeddings=architecture == "llama")
        export(checkpoint, folder, "fp32")
    return checkpoint, folder
