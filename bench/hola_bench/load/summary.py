"""From what happened in a load run to its report."""

from __future__ import annotations

import sys
from typing import Any

from hola_bench.chaos.stalls import percentile
from hola_bench.load.memory import Growth, growth
from hola_bench.load.options import Options
from hola_bench.load.run import EQUALS, GREED_WARM_S, GREEDY, MODEST, SETTINGS, Outcome
from hola_bench.report import Report, rounded

# Until then a process fills caches and pools that it keeps.
LONGEST_WARM_UP_S = 90.0
WARM_UP = 0.25
UNFAIR = 0.8
MOST_GROWTH_PERCENT = 5.0
SHOWN = 10


def report(options: Options, outcome: Outcome) -> Report:
    """The report of a run; errors are also printed on stderr."""
    begin_s, end_s = outcome.equal_span
    warm_s = begin_s + min(LONGEST_WARM_UP_S, WARM_UP * (end_s - begin_s))
    tokens = {tenant: outcome.served[tenant].tokens_between(warm_s, end_s) for tenant in EQUALS}
    grown = [found for each in outcome.samples if (found := growth(each, warm_s, end_s))]
    errors = [error for served in outcome.served.values() for error in served.errors]
    if errors:
        print("\n".join(errors[:SHOWN]), file=sys.stderr)
    left = outcome.leftovers
    return Report(
        bench="load",
        seed=options.seed,
        repeats=1,
        headline={
            "streams": options.streams,
            "tokens_per_s": rounded(sum(tokens.values()) / (end_s - warm_s)),
            "fairness": rounded(min(tokens.values()) / max(1, *tokens.values()), 3),
            "rss_growth_percent": rounded(max((each.percent for each in grown), default=0.0), 3),
            "stuck_sessions": left.stuck if left else 0,
            "errors": len(errors),
        },
        details={
            "fairness_means": "tokens of the worse served of two equal tenants over the other's",
            "model": options.model,
            "processes": f"{options.verifiers} verifiers, {options.drafters} drafters,"
            f" {options.routers} routers, redis",
            "settings": {f"HOLA_{key.upper()}": value for key, value in SETTINGS.items()},
            "minutes": rounded((end_s - begin_s) / 60, 3),
            "warm_up_s": rounded(warm_s - begin_s, 3),
            "tenants": _tenant_rows(outcome, warm_s),
            "memory": [_memory_row(each) for each in grown],
            "left_behind": _leftovers(outcome),
            "errors": errors[:SHOWN],
        },
    )


def failed(found: Report) -> bool:
    """Whether it was unfair, something grew, was stuck or went wrong."""
    headline = found.headline
    return bool(
        headline["errors"]
        or headline["stuck_sessions"]
        or headline["fairness"] < UNFAIR
        or headline["rss_growth_percent"] > MOST_GROWTH_PERCENT
        or found.details["left_behind"].get("keys_without_expiry")
    )


def _tenant_rows(outcome: Outcome, warm_s: float) -> list[dict[str, Any]]:
    greedy_s = outcome.greedy_span[0] + GREED_WARM_S
    spans = dict.fromkeys(EQUALS, (warm_s, outcome.equal_span[1]))
    spans |= dict.fromkeys((GREEDY, MODEST), (greedy_s, outcome.greedy_span[1]))
    rows = []
    for tenant, (begin_s, end_s) in spans.items():
        served = outcome.served[tenant]
        waits = [wait for at, wait in served.waits_s if begin_s <= at < end_s]
        rows.append(
            {
                "tenant": tenant,
                "streams": served.streams,
                "tokens_per_s": rounded(served.tokens_between(begin_s, end_s) / (end_s - begin_s)),
                "first_token_p50_s": rounded(percentile(waits, 0.5), 3),
                "first_token_p99_s": rounded(percentile(waits, 0.99), 3),
                "refused": served.refused,
                "errors": len(served.errors),
                **{str(habit): count for habit, count in sorted(served.habits.items())},
            }
        )
    return rows


def _memory_row(each: Growth) -> dict[str, Any]:
    return {
        "process": each.name,
        "early_mib": rounded(each.early / 2**20),
        "late_mib": rounded(each.late / 2**20),
        "growth_percent": rounded(each.percent, 3),
        "median_growth_percent": rounded(each.median_percent, 3),
        "mib_by_minute": " ".join(f"{size / 2**20:.1f}" for size in each.by_minute),
    }


def _leftovers(outcome: Outcome) -> dict[str, Any]:
    left = outcome.leftovers
    if left is None:
        return {}
    return {
        "verifier_sessions": left.sessions,
        "kv_bytes": left.kv_bytes,
        "jobs": left.jobs,
        "empty_after_s": rounded(left.after_s, 3),
        "redis_keys": {
            kind: f"{count}, at most {ttl_s} s" for kind, (count, ttl_s) in left.kinds.items()
        },
        "keys_without_expiry": ", ".join(left.lasting_keys[:SHOWN]),
        "longest_journal_entries": left.journal_entries,
    }
