"""The report as a page: whole, by itself, escaped; and pictures only of what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hola.compression.report import Report, parse_report
from hola_cli.report_page import page, write_pages
from hola_cli.report_plots import plots
from tests.support.compression import ARTIFACT
from tests.support.report import full_report

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.torch  # brings matplotlib
def test_every_part_has_its_picture_and_equal_reports_equal_bytes():
    drawn = plots(full_report())
    assert set(drawn) == {"pareto", "bits", "passes", "tasks", "draft"}
    assert all(data.startswith(PNG) and len(data) > 5000 for data in drawn.values())
    assert plots(full_report()) == drawn


@pytest.mark.torch
def test_a_report_of_almost_nothing_has_no_pictures():
    bare = Report(
        source="x", parameters=1, bytes=1, overhead_bytes=0, bits_per_weight=4.0, original_bytes=1
    )
    assert plots(bare) == {}
    text = page(ARTIFACT, bare, {})
    assert "4.00" in text
    assert "<img" not in text


@pytest.mark.torch
def test_numbers_that_were_not_finite_are_shown_as_such():
    whole = full_report()
    document = whole.document()
    for row in (*document["quality"], *document["pareto"]):
        row["kld_mean"] = row["perplexity"] = None
    report = parse_report(document)
    assert plots(report)["pareto"].startswith(PNG)
    assert "<b>nan</b>" in page(ARTIFACT, report, {})


def test_the_page_needs_nothing_else_and_escapes_what_it_shows():
    text = page(ARTIFACT, full_report(), {"bits": PNG})
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    for value in (ARTIFACT.digest, "0.021", "made it worse", "layers.3.o_proj", "95.1 %"):
        assert value in text


@pytest.mark.torch
def test_files_are_written_and_the_json_reads_back(tmp_path: Path):
    files = write_pages(tmp_path / "out", ARTIFACT, full_report())
    assert {file.name for file in files} >= {"report.html", "report.json", "bits.png"}
    document = json.loads((tmp_path / "out/report.json").read_text())
    assert parse_report(document) == parse_report(full_report().document())
