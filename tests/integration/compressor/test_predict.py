"""What a job needs is known before it runs, and no more than that is asked for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hola.compression.plan import Prune, parse_plan
from hola.errors import InvalidRequest, NoDiskSpace, UnsupportedArchitecture
from hola_compressor.passes import estimate
from tests.support.compression import BASE

pytestmark = pytest.mark.torch


def held(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_a_job_keeps_no_more_than_was_predicted(finished, checkpoint):
    work, _, _ = finished
    assert held(work) <= estimate(parse_plan(BASE), checkpoint).disk_bytes


def test_a_resumed_job_needs_only_what_is_not_there_yet(finished, compress, monkeypatch, tmp_path):
    """A full disk after most passes: what they left is not asked for again."""
    work, _, _ = finished
    resumed = tmp_path / "resumed"
    shutil.copytree(work, resumed)
    (resumed / "large").write_bytes(b"")
    with (resumed / "large").open("r+b") as stream:
        stream.truncate(2**40)
    monkeypatch.setattr("hola_compressor.passes.predict.shutil.disk_usage", nothing_free)
    compress(resumed)
    with pytest.raises(NoDiskSpace):
        compress()


def nothing_free(_: object) -> object:
    from shutil import _ntuple_diskusage

    return _ntuple_diskusage(10, 10, 0)


@pytest.mark.parametrize(
    ("shape", "least", "most"),
    [
        ({}, 1.0, 1.0),
        ({"layers": 0.5}, 0.5, 0.75),
        ({"ffn": 0.5}, 0.5, 1.0),
        ({"ffn": 0.5, "kv_heads": 0.25}, 0.5, 1.0),
        ({"ffn": 0.5, "kv_heads": 0.5, "layers": 0.5}, 0.25, 0.5),
        ({"layers": 0.9}, 0.1, 0.35),
    ],
)
def test_what_pruning_leaves_is_a_product_of_its_kinds(checkpoint, shape, least, most):
    from transformers import LlamaConfig

    from hola_compressor.passes.predict import left
    from hola_compressor.passes.source import open_checkpoint

    config = LlamaConfig(
        num_hidden_layers=10, intermediate_size=640, num_key_value_heads=8, num_attention_heads=8,
        hidden_size=128, vocab_size=1000,
    )  # fmt: skip
    large = replace(open_checkpoint(checkpoint), config=config, parameters=4 * 2 * 128 * 1000)
    assert left(Prune(**shape), large) == pytest.approx((least, most))


def test_everything_that_grows_makes_a_job_larger(checkpoint):
    base = estimate(parse_plan(BASE), checkpoint)
    for change in (
        {"calibration": {**BASE["calibration"], "tokens": 2**20}},
        {"calibration": {**BASE["calibration"], "window": 128}},
        {"repair": {"steps": 2, "rows": 64}},
        {"repair": {"steps": 2, "rows": 4, "codes": True}},
        {"prune": {"ffn": 0.1}, "recover": {"steps": 2, "rows": 64}},
    ):
        assert estimate(parse_plan({**BASE, **change}), checkpoint).memory_bytes > base.memory_bytes
    all_weights = {"steps": 2, "rows": 4}
    draft = {"objective": "draft", "draft_for": "x", "recover": all_weights}
    drafts = estimate(parse_plan({**BASE, **draft}), checkpoint)
    assert drafts.disk_bytes > 2 * base.disk_bytes
    assert drafts.memory_bytes > base.memory_bytes


@pytest.fixture
def other(checkpoint, tmp_path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "other"))


def test_rows_longer_than_the_model_reads_are_refused(other, tmp_path):
    from hola_compressor.passes import run

    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 40}))
    with pytest.raises(InvalidRequest, match=r"window is 48 tokens, the model reads 40"):
        run(
            parse_plan(BASE), other, tmp_path / "work",
            progress=lambda _: None, cancelled=lambda: False,
        )  # fmt: skip


def test_weights_that_lie_there_twice_count_once(other):
    before = estimate(parse_plan(BASE), other)
    shutil.copyfile(other / "model.safetensors", other / "consolidated.safetensors")
    assert estimate(parse_plan(BASE), other) == before


def test_a_model_of_several_parts_is_refused(other):
    (other / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    with pytest.raises(UnsupportedArchitecture, match="several models"):
        estimate(parse_plan(BASE), other)
