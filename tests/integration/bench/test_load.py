"""The load bench, small: its form, tenants by API key, and an empty fleet at the end."""

from __future__ import annotations

import json

import pytest

from hola_bench.load import Options, run

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]


def test_a_few_streams_for_a_few_seconds():
    few = {"streams": 8, "minutes": 0.1, "verifiers": 1, "drafters": 1, "routers": 1}
    report = run(Options(models_dir="", model="scripted", **few))
    headline = report.headline
    assert list(headline) == [
        "streams", "tokens_per_s", "fairness", "rss_growth_percent", "stuck_sessions", "errors",
    ]  # fmt: skip
    assert headline["errors"] == 0, report.details["errors"]
    assert headline["tokens_per_s"] > 0
    left = report.details["left_behind"]
    assert (left["verifier_sessions"], left["kv_bytes"], left["jobs"]) == (0, 0, 0), left
    assert left["keys_without_expiry"] == ""
    assert {row["tenant"] for row in report.details["tenants"]} == {
        "anna", "ben", "greedy", "modest",
    }  # fmt: skip
    json.dumps(report.as_json())
