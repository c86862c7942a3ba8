"""`hola top`: rates out of two looks, restarts and silence included, as a screen and as JSON."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hola.telemetry import Metrics, serve_metrics
from hola_cli import top
from hola_cli.fleet_view import Look, row_of
from hola_cli.main import app


def look(at_s: float, text: str, endpoint: str = "a:1") -> Look:
    return Look(endpoint=endpoint, at_s=at_s, samples=top.parse(text))


PAGE = """# TYPE hola_build_info gauge
hola_build_info{{service="node",version="0.1.0",python="3.11"}} 1
# TYPE hola_committed_tokens_total counter
hola_committed_tokens_total{{outcome="accepted"}} {accepted}
hola_committed_tokens_total{{outcome="bonus"}} 4
# TYPE hola_spec_decode_num_draft_tokens_total counter
hola_spec_decode_num_draft_tokens_total {drafted}
# TYPE hola_spec_decode_num_accepted_tokens_total counter
hola_spec_decode_num_accepted_tokens_total {accepted}
# TYPE hola_requests_total counter
hola_requests_total{{service="router",outcome="stop_token"}} 9
hola_requests_total{{service="router",outcome="engine_failure"}} {failed}
# TYPE hola_num_requests_running gauge
hola_num_requests_running{{service="router"}} 3
hola_num_requests_running{{service="drafter"}} 2
# TYPE hola_num_requests_waiting gauge
hola_num_requests_waiting {waiting}
# TYPE hola_time_to_first_token_seconds histogram
hola_time_to_first_token_seconds_bucket{{service="router",le="0.5"}} {fast}
hola_time_to_first_token_seconds_bucket{{service="router",le="1.0"}} 10
hola_time_to_first_token_seconds_bucket{{service="router",le="+Inf"}} 10
"""


def page(**values: Any) -> str:
    base = {"accepted": 10, "drafted": 20, "failed": 0, "waiting": 1, "fast": 0}
    return PAGE.format(**{**base, **values})


def test_rates_are_between_the_looks() -> None:
    before = look(100, page())
    row = row_of(before, look(102, page(accepted=25, drafted=40, failed=4, waiting=7)))
    assert (row.service, row.version, row.running, row.waiting) == ("node", "0.1.0", 3, 7)
    assert row.tokens_per_s == 7.5
    assert row.acceptance == 15 / 20
    assert row.failures_per_s == 2
    assert row.failures == {"engine_failure": 4}
    assert row.first_token_s == 1.0, "nothing was fast, and nothing new: since the start"


def test_a_process_that_was_restarted_counts_from_zero() -> None:
    row = row_of(look(100, page(accepted=1000, drafted=2000)), look(102, page()))
    assert row.tokens_per_s == 5
    assert row.acceptance == 0.5


def test_a_first_look_has_no_rates() -> None:
    first = look(100, page())
    row = row_of(first, first)
    assert (row.tokens_per_s, row.acceptance, row.running) == (None, None, 3)


def test_what_is_not_known_is_not_zero() -> None:
    row = row_of(look(1, page()), look(2, page(waiting="NaN")))
    assert row.waiting is None
    silent = row_of(look(1, page()), Look(endpoint="a:1", at_s=2, error="refused"))
    assert (silent.error, silent.tokens_per_s, silent.kv_share) == ("refused", None, None)


def test_the_screen_shows_failures_and_who_is_down() -> None:
    rows = [
        row_of(look(1, page()), look(2, page(failed=2, accepted=30))),
        row_of(Look(endpoint="b:1", at_s=1), Look(endpoint="b:1", at_s=2, error="refused [x]")),
    ]
    file = io.StringIO()
    picture = top.Picture(services=rows, verifiers=(), registry_error="redis is away")
    Console(file=file, width=140).print(top.screen_of(picture))
    shown = file.getvalue()
    assert "1/2 services up, 1 waiting, 20.0 tokens/s" in shown
    assert "no metrics at b:1: refused [x]" in shown
    assert "failed at node: engine_failure 2" in shown
    assert "registry: redis is away" in shown


async def test_a_page_is_read_from_a_real_service() -> None:
    metrics = Metrics("verifier")
    metrics.kv_bytes.set(5)
    async with serve_metrics("127.0.0.1:0", metrics) as port:
        found = await top.scrape(f"127.0.0.1:{port}")
        assert found.samples["hola_verifier_kv_bytes", ()] == 5
        assert row_of(found, found).service == "verifier"
    gone = await top.scrape(f"127.0.0.1:{port}")
    assert "refused" in gone.error


@pytest.mark.parametrize("text", ["hola_x", "hola_x{ 1", "hola_x{a=1} 2", "<html>", "a b c d e"])
def test_a_page_that_is_none_is_a_look_with_an_error(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(top, "_fetch", lambda endpoint: text)
    result = CliRunner().invoke(app, ["top", "a:1", "--once", "--json", "-i", "0.1"])
    assert result.exit_code == 6
    assert json.loads(result.stdout)["services"][0]["error"]


def test_once_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = iter([page(), page(accepted=20)])
    monkeypatch.setattr(top, "_fetch", lambda endpoint: next(pages))
    result = CliRunner().invoke(app, ["top", "a:1", "--once", "--json", "-i", "0.1"])
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)["services"]
    assert row["tokens_per_s"] > 0
    assert row["failures"] == {}


def test_without_an_address_it_says_how() -> None:
    result = CliRunner().invoke(app, ["top", "--once"])
    assert result.exit_code == 2
    assert "HOLA_METRICS_LISTEN" in result.stderr
