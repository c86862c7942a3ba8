"""A fleet of real processes under a full schedule of faults: no stream is harmed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hola_bench.chaos import Options, failed, run

pytestmark = [pytest.mark.chaos, pytest.mark.redis, pytest.mark.timeout(1200)]

MODELS = Path(__file__).resolve().parents[2] / "models"
STALL_S = 2.0


def options(**changes: object) -> Options:
    return Options(**{"models_dir": str(MODELS), "model": "demo", "seed": 1, **changes})


def shown(report) -> str:
    """The report of a run that failed; the schedule and the streams are on stderr."""
    return json.dumps(report.as_json(), indent=1)


def test_two_hundred_streams_survive_a_hundred_faults(capfd):
    asked = options(streams=200, faults=100)
    report = run(asked)
    headline = report.headline
    assert not failed(asked, report), shown(report) + capfd.readouterr().err
    assert headline["streams"] >= 200
    assert headline["faults"] == 100
    assert headline["stall_p99_s"] < STALL_S, shown(report)


def test_a_rolling_restart_of_all_verifiers_is_not_noticed(capfd):
    asked = options(rolling=4, streams=100, together=12, verifiers=3)
    report = run(asked)
    assert not failed(asked, report), shown(report) + capfd.readouterr().err
    assert report.headline["client_errors"] == 0
    assert report.headline["faults"] == 12
    assert report.details["moved_streams"] > 0, "no session was handed over: nothing was tested"
