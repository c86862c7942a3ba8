"""Trimmed output layers: the tokens that stay have the same logits, the others never win."""

from __future__ import annotations

import numpy as np
import pytest

from hola.errors import UnsupportedArchitecture

pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]
TOKENS = [1, 5, 9, 2, 7, 3]


def logits(folder):
    from hola.engines.onnx import OnnxEngine

    engine = OnnxEngine(folder, threads=1)
    session = engine.open(len(TOKENS))
    try:
        return session.forward(TOKENS).copy()
    finally:
        session.close()
        engine.close()


@pytest.mark.parametrize("bits", [3, 4, 8, 16])
def test_what_stays_is_bit_identical_and_the_rest_never_wins(compress, tmp_path, bits):
    from hola_compressor.passes.heads import extra_bytes, trim_head
    from hola_compressor.passes.verdict import artifact_bytes

    quantize = {"bits": [bits], "blocks": [32], "refine": 0, "symmetric": bits == 8}
    built, _ = compress(bits=None, quantize=quantize, repair={"steps": 0})
    whole = logits(built.artifact)
    keep = [0, 3, 7, whole.shape[1] - 1]
    (tmp_path / "small").mkdir()
    trim_head(built.artifact, keep, tmp_path / "small")
    small = logits(tmp_path / "small")
    assert small.shape == whole.shape
    assert np.array_equal(small[:, keep], whole[:, keep])
    others = np.setdiff1d(np.arange(whole.shape[1]), keep)
    assert (small[:, others] == -1e9).all()
    grown = artifact_bytes(tmp_path / "small") - artifact_bytes(built.artifact)
    assert grown <= extra_bytes(len(keep))


def test_equal_arguments_give_equal_files(finished, tmp_path):
    from hola_compressor.passes.heads import trim_head

    _, built, _ = finished
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        trim_head(built.artifact, [1, 2, 3], tmp_path / name)
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert files == sorted(file.name for file in built.artifact.iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_graph_that_ends_in_something_else_is_refused(finished, tmp_path):
    import onnx

    from hola_compressor.passes.graph import load_graph, write_external
    from hola_compressor.passes.heads import trim_head

    _, built, _ = finished
    graph = load_graph(built.artifact)
    head = next(node for node in graph.graph.node if "logits" in node.output)
    head.output[0] = "before"
    graph.graph.node.append(onnx.helper.make_node("Identity", ["before"], ["logits"]))
    (tmp_path / "odd").mkdir()
    write_external(graph, tmp_path / "odd")
    with pytest.raises(UnsupportedArchitecture, match="Identity"):
        trim_head(tmp_path / "odd", [1], tmp_path)


def test_the_most_frequent_tokens_stay_and_those_always_needed():
    from hola_compressor.passes.heads import frequent_tokens

    rows = [[4, 4, 4, 2], [2, 9, 1]]
    assert frequent_tokens(rows, 2, ()) == [2, 4]
    assert frequent_tokens(rows, 3, (7,)) == [2, 4, 7]
    assert frequent_tokens(rows, 1, (7, 8)) == [7, 8], "what is always needed is never left out"
    assert frequent_tokens(rows, 99, ()) == [1, 2, 4, 9]
