"""Logits of a wide vocabulary: a batch in parts, or the original run again, gives the same."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from tests.support.tiny_models import VOCAB_SIZE, write_checkpoint

pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]
ROWS = [[1 + (7 * at + row) % 300 for at in range(20 + row)] for row in range(8)]


@pytest.fixture(scope="module")
def model(checkpoint):
    from hola_compressor.passes.source import load_model

    return load_model(checkpoint)


@pytest.fixture
def narrow(monkeypatch):
    """Only two rows' logits fit."""
    from hola_compressor.passes import text

    monkeypatch.setattr(text, "_LOGITS_AT_ONCE", 2 * 27 * VOCAB_SIZE)


WIDE = {
    "bits": 8.0,
    "calibration": {"tokens": 512, "train_tokens": 512, "window": 128},
    "quantize": {"bits": [4, 8], "blocks": [32], "symmetric": False},
    "repair": {"steps": 2, "rows": 16},
}
RUN = """
import json, resource, sys
from pathlib import Path
from hola.compression.plan import parse_plan
from hola_compressor.passes import estimate, run
plan, source = parse_plan(json.loads(sys.argv[1])), Path(sys.argv[2])
predicted = estimate(plan, source).memory_bytes
run(plan, source, Path(sys.argv[3]), progress=lambda _: None, cancelled=lambda: False)
print(predicted, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit")
def test_a_job_takes_no_more_memory_than_was_predicted(tmp_path):
    write_checkpoint(tmp_path / "wide", vocab_size=12_000, tie_word_embeddings=True)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Line {at} of a text, as long as a row. " * 4 for at in range(20)))
    plan = json.dumps({**WIDE, "calibration": {**WIDE["calibration"], "source": str(text)}})
    command = [sys.executable, "-c", RUN, plan, tmp_path / "wide", tmp_path / "work"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    predicted, peak = map(int, done.stdout.splitlines()[-1].split())
    assert 0.4 * predicted < peak <= predicted


@pytest.mark.parametrize(
    ("width", "vocabulary", "rows"),
    [(256, 4096, 16), (256, 32_000, 4), (256, 151_936, 1), (8192, 262_144, 1), (1, 1, 16)],
)
def test_rows_at_once(width, vocabulary, rows):
    from hola_compressor.passes.text import rows_at_once

    assert rows_at_once(width, vocabulary, 16) == rows


def test_a_batch_in_parts_has_the_gradient_of_the_whole(model, narrow, monkeypatch):
    import torch

    from hola_compressor.passes import text
    from hola_compressor.passes.training import draw

    def gradient() -> tuple[int, torch.Tensor]:
        weight = model.model.layers[0].mlp.up_proj.weight
        weight.requires_grad_(True)
        weight.grad = None
        parts = list(draw(random.Random(3), ROWS, 5, VOCAB_SIZE))
        assert sum(share for share, _, _ in parts) == pytest.approx(1.0)
        for share, ids, known in parts:
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1][known]
            (share * torch.nn.functional.cross_entropy(logits, ids[:, 1:][known])).backward()
        found, weight.grad = weight.grad, None
        weight.requires_grad_(False)
        return len(parts), found

    many, in_parts = gradient()
    monkeypatch.setattr(text, "_LOGITS_AT_ONCE", 2**25)
    one, whole = gradient()
    assert (many, one) == (3, 1)
    torch.testing.assert_close(in_parts, whole)


def test_logits_that_are_not_kept_compare_the_same(model):
    import copy

    import torch

    from hola_compressor.passes.measure import Judge

    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.layers[1].mlp.down_proj.weight.mul_(1.1)
    kept, again = Judge(model, ROWS), Judge(model, ROWS, keep_bytes=1000)
    want, got = kept.compare(other), again.compare(other)
    assert want.kld_mean > 0
    assert got.quality("t") == want.quality("t")
    assert again.compare(model).kld_mean == pytest.approx(0, abs=1e-6)


def test_a_wide_vocabulary_does_not_keep_its_logits(checkpoint):
    """So that Qwen's 151,936 tokens cost no 10 GB on 32,768 tokens of text."""
    from dataclasses import replace

    from hola.compression.plan import parse_plan
    from hola_compressor.passes.predict import predicted
    from hola_compressor.passes.source import open_checkpoint

    opened = open_checkpoint(checkpoint)
    config = type(opened.config)(**{**opened.config.to_dict(), "vocab_size": 151_936})
    wide = predicted(parse_plan({"bits": 5}), replace(opened, config=config))
    assert wide.memory_bytes < 4 * 2**30
