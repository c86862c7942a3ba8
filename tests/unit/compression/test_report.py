"""Reports: written, read back, and garbage refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from hola.compression.report import (
    Exactness,
    PassRow,
    Quality,
    Report,
    TensorRow,
    parse_report,
    read_report,
    write_report,
)
from hola.errors import ArtifactInvalid

REPORT = Report(
    source="m",
    parameters=10,
    bytes=5,
    overhead_bytes=1,
    bits_per_weight=4.0,
    original_bytes=20,
    quality=(
        Quality(
            text="calibration", tokens=9, perplexity=2.0, original_perplexity=1.5, kld_mean=0.1,
            kld_p99=0.3, top1_agreement=0.9,
        ),
    ),
    tensors=(
        TensorRow(
            name="layers.0.mlp.up_proj", layer=0, kind="up_proj", rows=2, columns=4, bits=4,
            block=32, symmetric=True, bytes=4, damage=0.1,
        ),
    ),
    passes=(PassRow(name="repair", kld_mean=None, kept=False, note="dropped"),),
    exactness=Exactness(exact=True, fingerprint="ab"),
)  # fmt: skip


def test_a_report_survives_its_file(tmp_path):
    write_report(REPORT, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == REPORT


def test_a_number_that_is_not_finite_becomes_null():
    report = replace(REPORT, bits_per_weight=float("inf"))
    assert json.loads(json.dumps(report.document()))["bits_per_weight"] is None


def test_a_number_that_was_not_finite_is_read_as_none(tmp_path):
    (row,) = REPORT.quality
    write_report(replace(REPORT, quality=(replace(row, kld_mean=math.inf),)), tmp_path / "r.json")
    (read,) = read_report(tmp_path / "r.json").quality
    assert math.isnan(read.kld_mean)
    assert read.perplexity == row.perplexity


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"bytes": "many"},
        {"bytes": None},
        {"bytes": True},
        {"source": 3},
        {"bits_per_weight": [4]},
        {"exactness": {"exact": 1, "fingerprint": "ab"}},
        {"quality": {}},
        {"quality": [3]},
        {"quality": [{"text": "x"}]},
        {"tensors": [{"colour": 1}]},
        {"exactness": "yes"},
        {"colour": 1},
    ],
)
def test_what_is_no_report_is_refused(change):
    with pytest.raises(ArtifactInvalid):
        parse_report({**REPORT.document(), **change})


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 5000])
def test_a_file_that_is_no_report_is_refused(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ArtifactInvalid):
        read_report(tmp_path / "report.json")
