"""The exactness benchmark, small, with real gRPC, processes and, on the demo tiers, real models."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from hola_bench.exactness import Options, run_on
from hola_bench.prompts import random_bytes
from hola_cli.main import app


@pytest.mark.timeout(300)
def test_scripted_tiers_in_two_processes(scripted):
    options = Options(models_dir="", model="scripted", jobs=2, chi2_draws=600, max_tokens=20)
    report = run_on(scripted, random_bytes(4, seed=2), options)
    rows = {row["configuration"]: row for row in report.details["configurations"]}
    assert report.details["mismatches"] == []
    assert report.headline["mismatches"] == 0
    assert report.headline["prompts"] == 4
    assert report.headline["configurations"] == len(rows) == 27
    assert {row["compared"] for row in rows.values()} == {12}
    assert rows["k=4"]["accepted_per_verify"] > 0.5, "nothing was speculated: nothing was tested"
    assert rows["random-tokens"]["accepted_per_verify"] < 0.1
    for name in ("verifier-restarted", "drafter-killed"):
        assert rows[name]["hit_in_mid_stream"] >= 10, name


@pytest.mark.redis
@pytest.mark.timeout(300)
def test_the_command_on_the_demo_tiers(demo_models_dir):
    names = "ladder=lookup+draft+mid,k=4,random-tokens,verifier-restarted,drafter-process-killed"
    arguments = ["--prompts", "2", "--max-tokens", "24", "--jobs", "1", "--draws", "1000"]
    arguments += ["--configurations", names]
    found = CliRunner().invoke(
        app, ["bench", "exactness", "--json", "--models-dir", demo_models_dir, *arguments]
    )
    assert found.exit_code == 0, found.stderr
    (line,) = found.stdout.splitlines()
    report = json.loads(line)
    keys = ["bench", "version", "machine", "seed", "repeats", "headline", "details"]
    assert list(report) == keys
    assert set(report["headline"]) == {"prompts", "configurations", "mismatches", "chi2_p_min"}
    assert report["headline"]["mismatches"] == 0, report["details"]["mismatches"]
    assert report["headline"]["configurations"] == 5
    assert report["details"]["chi2"]["false_alarm_probability"] == 1e-6
    rows = {row["configuration"]: row for row in report["details"]["configurations"]}
    assert rows["drafter-process-killed"]["hit_in_mid_stream"] >= 3
    assert rows["k=4"]["accepted_per_verify"] > 1
