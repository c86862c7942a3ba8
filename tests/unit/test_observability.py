"""Dashboard, alerts and pages name only metrics and labels that the code has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hola_cli.metrics_reference import renewed, series
from tools.dashboard import dashboard

REPO = Path(__file__).resolve().parents[2]
OPS = REPO / "ops"
RULES = yaml.safe_load((OPS / "prometheus/hola.rules.yml").read_text("utf-8"))["groups"]
UNIT_TESTS = yaml.safe_load((OPS / "prometheus/hola.rules.test.yml").read_text("utf-8"))["tests"]
BOARD = json.loads((OPS / "grafana/hola.json").read_text("utf-8"))

# Series of Prometheus itself, and labels that it adds to every target.
PROMETHEUS_ITSELF = {"up"}
OF_TARGETS = {"job", "instance"}
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((REPO / "docs").glob("*.md")))]

LABELS = {name: {*each.labels, "le"} for each in series() for name in each.scraped}
NAME = re.compile(r"\b((?:hola|process)_[a-z0-9_]+)\b(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|without|on|group_left) \(([^)]*)\)")


def panels() -> list[dict[str, Any]]:
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Every query of the dashboard and the alerts, with where it stands."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]
    for group in RULES:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]


def wrong_names(query: str) -> list[str]:
    """Metrics and labels of a query that no service has."""
    found, labels = [], set(OF_TARGETS)
    for name, selector in NAME.findall(query):
        if name not in LABELS and name not in PROMETHEUS_ITSELF:
            found.append(name)
            continue
        labels |= LABELS[name]
        used = set(re.findall(r"([a-z_]+)\s*(?:=|!)", selector))
        found += [f"{name}{{{label}}}" for label in used - LABELS[name] - OF_TARGETS]
    grouped = {label for group in GROUPED.findall(query) for label in re.findall("[a-z_]+", group)}
    return found + sorted(grouped - labels)


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_a_query_names_what_there_is(where: str, query: str) -> None:
    assert re.search(r"hola_|process_|\bup\b", query), where
    assert wrong_names(query) == [], where


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("rate(hola_requests[5m])", ["hola_requests"]),
        ('hola_requests_total{tenant="x"}', ["hola_requests_total{tenant}"]),
        ("sum by (tenant) (hola_requests_total)", ["tenant"]),
        ("hola_verify_seconds", ["hola_verify_seconds"]),
        ('sum by (outcome) (hola_requests_total{job="x"})', []),
    ],
)
def test_a_wrong_query_is_found(query: str, wrong: list[str]) -> None:
    assert wrong_names(query) == wrong


def test_the_dashboard_is_what_its_table_says() -> None:
    text = (OPS / "grafana/hola.json").read_text("utf-8")
    made = json.dumps(dashboard(), indent=1) + "\n"
    assert text == made, "run: python -m tools.dashboard > ops/grafana/hola.json"


def test_panels_have_a_place_of_their_own_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    for panel in panels():
        assert panel["description"], panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_every_alert_has_words_and_a_test() -> None:
    alerts = [rule for group in RULES for rule in group["rules"]]
    for rule in alerts:
        assert set(rule["annotations"]) == {"summary", "description", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
    fired = {
        case["alertname"]
        for test in UNIT_TESTS
        for case in test.get("alert_rule_test", ())
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in alerts}


def test_the_series_of_the_alerts_tests_exist() -> None:
    for test in UNIT_TESTS:
        for given in test["input_series"]:
            assert wrong_names(given["series"]) == [], test["name"]


def test_the_table_of_metrics_is_what_the_code_has() -> None:
    page = (REPO / "docs/OBSERVABILITY.md").read_text("utf-8")
    assert "`hola_requests_total`" in page
    run = "python -m hola_cli.metrics_reference docs/OBSERVABILITY.md"
    assert page == renewed(page), f"run: {run}"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_what_there_is(name: str) -> None:
    ours = {f"hola_{part}" for part in "router drafter verifier compressor cli bench".split()}
    text = (REPO / name).read_text("utf-8")
    named = set(re.findall(r"\b(hola_[a-z0-9_]+_(?:total|seconds|bytes|depth|sessions))\b", text))
    bases = {each.name for each in series()}
    assert sorted(named - set(LABELS) - bases - ours) == []


def test_metrics_have_help_units_and_few_labels() -> None:
    for each in series():
        assert len(each.meaning) > 5, each.name
        assert not {"request_id", "session_id", "tenant", "client"} & set(each.labels), each.name
        if each.kind == "histogram" and each.name != "hola_journal_entries":
            assert each.name.endswith("_seconds"), each.name
