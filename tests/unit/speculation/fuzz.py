"""How the fuzz tests run: the same cases every time, many more of them when marked slow."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_CHECKS = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
# print_blob: a failure says which @reproduce_failure replays it.
FUZZ = settings(
    max_examples=200, derandomize=True, deadline=None, print_blob=True, database=None,
    suppress_health_check=_CHECKS,
)  # fmt: skip
FUZZ_LONG = settings(FUZZ, max_examples=5000)
