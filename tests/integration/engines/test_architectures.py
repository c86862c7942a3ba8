"""Every supported architecture: logits as transformers computes them, and exact at any width."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hola.engines import load_engine
from hola.engines.fingerprint import probe
from hola.ports import Logits
from tests.support.tiny_models import ARCHITECTURES

pytestmark = pytest.mark.torch

TOKENS = random.Random(3).choices(range(3, 250), k=90)
# Largest difference allowed, as a share of the spread of transformers' fp32 logits.
TOLERANCES = {"fp32": 1e-5, "fp16": 0.01, "int8": 0.1, "int4": 0.6}

ExportOf = Callable[[str, str], Path]


def reference(checkpoint: Path) -> Logits:
    """transformers' logits of TOKENS, fp32, by the eager attention that defines the model."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint, attn_implementation="eager"
    )
    with torch.no_grad():
        logits: Logits = model.float().eval()(torch.tensor([TOKENS])).logits[0].numpy()
    return logits


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_those_of_transformers(
    export_of: ExportOf, tiny_models: Path, architecture: str, precision: str
) -> None:
    engine = load_engine(export_of(architecture, precision), threads=1)
    expected = reference(tiny_models / architecture)
    logits = engine.open(128).forward(TOKENS)
    worst = float(np.abs(logits - expected).max() / np.ptp(expected))
    assert worst < TOLERANCES[precision], f"{architecture} {precision}: {worst:.2g} of the spread"
    assert probe(engine).exact


def test_half_precision_logits_and_cache(export_of: ExportOf, tiny_models: Path) -> None:
    engine = load_engine(export_of("llama", "fp16"), threads=1)
    expected = reference(tiny_models / "llama")
    logits = engine.open(128).forward(TOKENS)
    assert logits.dtype == np.float32
    assert engine.info.kv_bytes_per_token == 2 * 2 * 2 * 16 * 2  # half of fp32's
    assert float(np.abs(logits - expected).max() / np.ptp(expected)) < TOLERANCES["fp16"]


def test_rollback_behind_a_sliding_window(export_of: ExportOf) -> None:
    """gemma2 attends to 32 tokens in every other layer: going back must find them all again."""
    engine = load_engine(export_of("gemma2", "fp32"), threads=1)
    session = engine.open(256)
    session.prefill(TOKENS)
    session.prefill(TOKENS)
    session.truncate(50)
    after = session.forward(TOKENS[50:]).copy()
    assert after.tobytes() == engine.open(256).forward(TOKENS)[50:].tobytes()
