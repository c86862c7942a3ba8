"""What a fleet does, out of two looks at its metrics: rates, acceptance, load, failures. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]
Samples = Mapping[tuple[str, Labels], float]

# Ends of a request that are nobody's fault.
GOOD_ENDS = ("stop_token", "stop_string", "length", "cancelled", "detached")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One scrape of an endpoint: `at_s` on a monotonic clock; without samples it did not answer."""

    endpoint: str
    at_s: float
    samples: Samples = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRow:
    """One process. None where it has no such number, or nothing happened between the looks.

    Rates are per second between the looks; `acceptance` and `kv_share` are parts of 1, latencies
    seconds (medians). `failures` counts since its start, by outcome.
    """

    endpoint: str
    service: str
    version: str
    error: str
    running: int
    waiting: int | None
    tokens_per_s: float | None
    acceptance: float | None
    first_token_s: float | None
    inter_token_s: float | None
    kv_share: float | None
    queue_depth: int | None
    failures_per_s: float | None
    failures: Mapping[str, int]
    failovers: int
    celsius: float | None
    watts: float | None


def row_of(before: Look, now: Look) -> ServiceRow:
    """What a process did between two looks. A process that was restarted counts from 0 again."""
    seconds = now.at_s - before.at_s
    looks = _Looks(before.samples, now.samples)
    build = next((dict(labels) for name, labels in now.samples if name == "hola_build_info"), {})
    failed = {
        labels["outcome"]: int(value)
        for labels, value in looks.all("hola_requests_total")
        if labels["outcome"] not in GOOD_ENDS and value
    }
    drafts = looks.grown("hola_spec_decode_num_draft_tokens_total")
    accepted = looks.grown("hola_spec_decode_num_accepted_tokens_total")
    failures = sum(looks.grown("hola_requests_total", outcome=outcome) or 0.0 for outcome in failed)
    committed = looks.grown("hola_committed_tokens_total")
    service = build.get("service", "")
    routes, verifies = service in ("router", "node"), service in ("verifier", "node")
    return ServiceRow(
        endpoint=now.endpoint,
        service=service,
        version=build.get("version", ""),
        error=now.error,
        running=int(looks.most("hola_num_requests_running") or 0),
        waiting=_whole(looks.sum("hola_num_requests_waiting")) if routes else None,
        tokens_per_s=_per(committed, seconds),
        acceptance=accepted / drafts if drafts and accepted is not None else None,
        first_token_s=looks.median("hola_time_to_first_token_seconds"),
        inter_token_s=looks.median("hola_inter_token_latency_seconds"),
        kv_share=looks.sum("hola_kv_cache_usage_perc") if verifies else None,
        queue_depth=_whole(looks.sum("hola_verifier_queue_depth")) if verifies else None,
        failures_per_s=_per(failures, seconds),
        failures=failed,
        failovers=int(looks.sum("hola_failovers_total") or 0),
        celsius=looks.most("hola_device_temperature_celsius"),
        watts=looks.most("hola_device_power_watts"),
    )


@dataclass(frozen=True, slots=True)
class _Looks:
    """The samples of two looks at one process."""

    before: Samples
    now: Samples

    def all(self, name: str) -> Iterable[tuple[dict[str, str], float]]:
        """Labels and value of every series of a name."""
        return [(dict(labels), value) for (each, labels), value in self.now.items() if each == name]

    def sum(self, name: str) -> float | None:
        """Of all its series that are numbers; None without any."""
        values = [value for _, value in self.all(name) if not math.isnan(value)]
        return sum(values) if values else None

    def most(self, name: str) -> float | None:
        """The largest of its series."""
        return max((value for _, value in self.all(name)), default=None)

    def grown(self, name: str, **only: str) -> float | None:
        """How much a counter grew, over all its series with these labels; None without any."""
        found = [
            _growth(self.before.get((name, tuple(sorted(labels.items()))), 0.0), value)
            for labels, value in self.all(name)
            if all(labels.get(label) == wanted for label, wanted in only.items())
        ]
        return sum(found) if found else None

    def median(self, name: str) -> float | None:
        """Of a histogram between the looks, else since the start: its bucket's upper end."""
        for fresh in (True, False):
            buckets: dict[float, float] = {}
            for labels, value in self.all(f"{name}_bucket"):
                known = self.before.get((f"{name}_bucket", tuple(sorted(labels.items()))), 0.0)
                le = float(labels["le"])
                buckets[le] = buckets.get(le, 0.0) + (_growth(known, value) if fresh else value)
            total = buckets.get(math.inf, 0.0)
            if total > 0:
                return next(le for le in sorted(buckets) if buckets[le] >= total / 2)
        return None


def _growth(before: float, now: float) -> float:
    return now - before if now >= before else now


def _per(grown: float | None, seconds: float) -> float | None:
    return None if grown is None or seconds <= 0 else grown / seconds


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
