"""Writes the Grafana dashboard: `python -m tools.dashboard > ops/grafana/hola.json`.

A dashboard is a table of panels; Grafana's own JSON says the same in ten times as many lines.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT, PER_ROW = 8, 7, 3
SOURCE = {"type": "prometheus", "uid": "${source}"}
HERE = 'job=~"$job", instance=~"$instance"'


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph: its queries with their legends, the unit of its axis, and what it tells."""

    title: str
    unit: str
    tells: str
    queries: tuple[tuple[str, str], ...]


def rate(metric: str, by: str = "", more: str = "") -> str:
    """A counter per second, over the selected instances."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{_where(more)}}}[$__rate_interval]))"


def gauge(metric: str, how: str = "sum", by: str = "", more: str = "") -> str:
    """A gauge over the selected instances."""
    grouped = f" by ({by})" if by else ""
    return f"{how}{grouped} ({metric}{{{_where(more)}}})"


def quantile(share: float, metric: str, by: str = "", more: str = "") -> str:
    """A quantile of a histogram."""
    grouped = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', grouped, more)})"


def _where(more: str) -> str:
    return f"{HERE}, {more}" if more else HERE


def medians(metric: str, more: str = "") -> tuple[tuple[str, str], ...]:
    """p50, p95 and p99."""
    return tuple((quantile(q, metric, more=more), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99))


ROUTER = 'service="router"'
DRAFTED = "hola_spec_decode_num_draft_tokens_total"
ACCEPTED = "hola_spec_decode_num_accepted_tokens_total"
ACCEPTED_AT = "hola_spec_decode_num_accepted_tokens_per_pos_total"

ROWS: dict[str, tuple[Panel, ...]] = {
    "Requests": (
        Panel(
            "Requests a second, by end",
            "reqps",
            "As clients saw them end.",
            ((rate("hola_requests_total", "outcome", ROUTER), "{{outcome}}"),),
        ),
        Panel(
            "Running and waiting",
            "short",
            "Waiting: jobs that no drafter has taken, the stream's lag.",
            (
                (gauge("hola_num_requests_running", by="service"), "running at {{service}}"),
                (gauge("hola_num_requests_waiting", "max"), "waiting"),
                (gauge("hola_jobs_taken", "max"), "taken"),
            ),
        ),
        Panel(
            "Time to first token",
            "s",
            "From acceptance, queue and prefill included, at the router.",
            medians("hola_time_to_first_token_seconds", ROUTER),
        ),
        Panel(
            "Time per token",
            "s",
            "After the first; tokens of one round share its time.",
            medians("hola_inter_token_latency_seconds"),
        ),
        Panel(
            "Time of a request",
            "s",
            "From acceptance to the end, at the router.",
            medians("hola_e2e_request_latency_seconds", ROUTER),
        ),
        Panel(
            "Tokens a second, by outcome",
            "short",
            "Unverified ones were written without the target.",
            (
                (rate("hola_committed_tokens_total", "outcome"), "{{outcome}}"),
                (rate("hola_prompt_tokens_total"), "prompt"),
            ),
        ),
    ),
    "Speculation": (
        Panel(
            "Acceptance",
            "percentunit",
            "Draft tokens that the target chose as well.",
            ((f"{rate(ACCEPTED)} / {rate(DRAFTED)}", "accepted"),),
        ),
        Panel(
            "Acceptance by position",
            "percentunit",
            "Of the blocks with draft tokens, those accepted up to this position.",
            (
                (
                    f"{rate(ACCEPTED_AT, 'position')} / on () group_left () "
                    f"{rate('hola_spec_decode_num_drafts_total')}",
                    "{{position}}",
                ),
            ),
        ),
        Panel(
            "Tokens by tier",
            "short",
            "Proposed first by a tier, and those of them that held.",
            ((rate("hola_tier_tokens_total", "tier, outcome"), "{{tier}} {{outcome}}"),),
        ),
        Panel(
            "A round, stage by stage",
            "s",
            "Mean time of each stage; their sum is a round.",
            (
                (
                    f"{rate('hola_round_stage_seconds_sum', 'stage')} / "
                    f"{rate('hola_round_stage_seconds_count', 'stage')}",
                    "{{stage}}",
                ),
            ),
        ),
        Panel(
            "A round's stages, p95",
            "s",
            "Where the slow ones spend their time.",
            ((quantile(0.95, "hola_round_stage_seconds", "stage"), "{{stage}}"),),
        ),
        Panel(
            "What the entropy gate sends",
            "short",
            "Drafts in full, cut early, or not at all.",
            ((rate("hola_draft_gate_decisions_total", "decision"), "{{decision}}"),),
        ),
    ),
    "Verifiers": (
        Panel(
            "KV memory",
            "percentunit",
            "Part of the budget that sessions hold.",
            ((gauge("hola_kv_cache_usage_perc", "max", "instance"), "{{instance}}"),),
        ),
        Panel(
            "Sessions and queue",
            "short",
            "Sessions with a cache; passes that wait.",
            (
                (gauge("hola_verifier_sessions", by="instance"), "sessions {{instance}}"),
                (gauge("hola_verifier_queue_depth", by="instance"), "queue {{instance}}"),
            ),
        ),
        Panel(
            "Sessions that end, by why",
            "short",
            "Evicted: no memory. Idle: their drafter is gone.",
            ((rate("hola_verifier_sessions_closed_total", "why"), "{{why}}"),),
        ),
        Panel("Engine time of a block", "s", "Without waiting.", medians("hola_verify_seconds")),
        Panel("Engine time of a prefill", "s", "Without waiting.", medians("hola_prefill_seconds")),
        Panel("Wait for other sessions", "s", "Of a block.", medians("hola_verify_queue_seconds")),
    ),
    "Faults": (
        Panel(
            "Taken up elsewhere",
            "short",
            "Sessions and jobs that went on at another place.",
            (
                (rate("hola_failovers_total"), "failovers"),
                (rate("hola_reconnects_total"), "sessions opened again"),
                (rate("hola_job_takeovers_total"), "jobs of dead drafters"),
                (rate("hola_breaker_opens_total"), "addresses left alone"),
            ),
        ),
        Panel(
            "Verifier addresses, by state",
            "short",
            "As the drafters see them.",
            ((gauge("hola_pool_addresses", "max", "state"), "{{state}}"),),
        ),
        Panel(
            "Calls that fail",
            "reqps",
            "By gRPC code.",
            ((rate("hola_rpcs_total", "code", 'code!="OK"'), "{{code}}"),),
        ),
        Panel(
            "Dead letters",
            "short",
            "Jobs given up, kept for 30 days.",
            ((gauge("hola_dead_letters", "max"), "dead letters"),),
        ),
        Panel(
            "Hedges and corrections",
            "short",
            "Second questions; ends of unverified text.",
            (
                (rate("hola_hedges_total", "outcome"), "hedge {{outcome}}"),
                (rate("hola_corrections_total"), "corrections"),
            ),
        ),
        Panel(
            "Settings reloaded",
            "short",
            "Refused: something was wrong, nothing changed.",
            (
                (
                    gauge("hola_config_reloads_total", by="instance, outcome"),
                    "{{instance}} {{outcome}}",
                ),
            ),
        ),
    ),
    "Machines": (
        Panel(
            "Temperature",
            "celsius",
            "The hottest sensor.",
            ((gauge("hola_device_temperature_celsius", "max", "instance"), "{{instance}}"),),
        ),
        Panel(
            "Power",
            "watt",
            "By supply rail or sensor.",
            ((gauge("hola_device_power_watts", by="instance, sensor"), "{{instance}} {{sensor}}"),),
        ),
        Panel(
            "Memory",
            "bytes",
            "Resident, by process.",
            ((gauge("process_resident_memory_bytes", by="instance"), "{{instance}}"),),
        ),
        Panel(
            "Processor",
            "short",
            "Cores in use, by process.",
            ((rate("process_cpu_seconds_total", "instance"), "{{instance}}"),),
        ),
        Panel(
            "Journal entries of a request",
            "short",
            "What a request leaves on the bus.",
            medians("hola_journal_entries"),
        ),
        Panel(
            "Versions",
            "short",
            "What runs where.",
            ((gauge("hola_build_info", "count", "service, version"), "{{service}} {{version}}"),),
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """Grafana's own form."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append(_row(title, y, len(panels) + 1))
        y += 1
        for at, panel in enumerate(row):
            place = {"x": at % PER_ROW * WIDTH, "y": y + at // PER_ROW * HEIGHT}
            panels.append(_panel(panel, place, len(panels) + 1))
        y += -(-len(row) // PER_ROW) * HEIGHT
    return {
        "title": "HOLA",
        "uid": "hola",
        "tags": ["hola", "llm"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "source", "label": "source", "type": "datasource", "query": "prometheus"}
    labels = [
        ("job", "label_values(hola_build_info, job)"),
        ("instance", 'label_values(hola_build_info{job=~"$job"}, instance)'),
    ]
    asked = [
        {
            "name": name,
            "label": name,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }
        for name, query in labels
    ]
    return [source, *asked]


def _row(title: str, y: int, number: int) -> dict[str, Any]:
    place = {"x": 0, "y": y, "w": WIDTH * PER_ROW, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place}


def _panel(panel: Panel, place: dict[str, int], number: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.tells,
        "datasource": SOURCE,
        "gridPos": {**place, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 8}},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + at), "expr": query, "legendFormat": legend, "range": True}
            for at, (query, legend) in enumerate(panel.queries)
        ],
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
