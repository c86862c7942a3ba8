"""Steps as 64-bit ARM runs them, begun and ended at multiples of four: equal bits at any width."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from hola.engines import onnx_session
from hola.engines.onnx import OnnxEngine

TOKENS = [(7 * at + 3) % 50 for at in range(45)]
PREFIX = 6


@pytest.fixture
def engine(export_of, monkeypatch):
    monkeypatch.setattr(onnx_session, "WIDTH_MULTIPLE", 4)
    monkeypatch.setattr(onnx_session, "ALIGNED", True)
    with closing(OnnxEngine(export_of("llama", "fp32"), threads=1)) as engine:
        yield engine


@pytest.mark.torch
@pytest.mark.parametrize("capacity", range(45, 50))
def test_every_width_to_the_last_row_of_the_cache_gives_the_same_bits(engine, capacity):
    with closing(engine.open(capacity)) as session:
        session.prefill(TOKENS[:PREFIX])
        whole = session.forward(TOKENS[PREFIX:]).copy()
        for width in range(1, 10):
            session.truncate(PREFIX)
            parts = [
                session.forward(TOKENS[at : at + width]).copy()
                for at in range(PREFIX, len(TOKENS), width)
            ]
            assert np.array_equal(np.concatenate(parts), whole), f"width {width}"
            assert session.length == len(TOKENS)


@pytest.mark.torch
def test_a_guess_that_was_rolled_back_leaves_nothing(engine):
    with closing(engine.open(48)) as session:
        session.prefill(TOKENS[:PREFIX])
        whole = session.forward(TOKENS[PREFIX:20]).copy()
        for at in range(PREFIX, 20):
            session.truncate(at)
            session.forward([49, 48, 47])
            session.truncate(at)
            assert np.array_equal(session.forward(TOKENS[at : at + 1])[0], whole[at - PREFIX])
