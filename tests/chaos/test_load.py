"""Many streams of several tenants at once: fair, without growth, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hola_bench.load import Options, failed, run

pytestmark = [pytest.mark.chaos, pytest.mark.redis, pytest.mark.timeout(1200)]

MODELS = Path(__file__).resolve().parents[2] / "models"


def test_sixty_four_streams_of_two_tenants():
    report = run(Options(models_dir=str(MODELS), model="demo", minutes=10))
    assert not failed(report), json.dumps(report.as_json(), indent=1)
    rows = {row["tenant"]: row for row in report.details["tenants"]}
    assert rows["modest"]["first_token_p50_s"] < rows["greedy"]["first_token_p50_s"], rows
