"""Admission: what is refused, with which error, and when the client may come back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hola.errors import Overloaded, QuotaExceeded
from hola.types import Exactness, VerifierInfo
from hola_router.admission import (
    LONGEST_WAIT_MS,
    SHORTEST_WAIT_MS,
    UNMEASURED_WAIT_MS,
    LoadFacts,
    over_rate,
    refusal,
)
from hola_router.pace import KEPT_ENDS, Pace

IDLE = LoadFacts(tenant="acme", model="demo", requests=0, queue_limit=10, kv_share=0.9)
VERIFIER = VerifierInfo(
    version="1",
    model="demo",
    tokenizer_fingerprint="",
    artifact_digest="",
    fingerprint="f",
    exactness=Exactness.EXACT,
    context_length=512,
    active_sessions=3,
    kv_bytes=100,
    kv_budget_bytes=1000,
)
FULL = replace(VERIFIER, kv_bytes=900)
BUSY = replace(VERIFIER, queue_depth=10)

ADMITTED = {
    "nothing is going on": IDLE,
    "one place is left": replace(IDLE, requests=9),
    "no tenant limit": replace(IDLE, tenant_requests=9),
    "the tenant's last place": replace(IDLE, tenant_requests=2, tenant_limit=3),
    "no verifier announces itself": replace(IDLE, verifiers=()),
    "one of two is full": replace(IDLE, verifiers=(FULL, VERIFIER)),
    "one of two is busy": replace(IDLE, verifiers=(VERIFIER, BUSY)),
    "a full one of another model": replace(IDLE, verifiers=(replace(FULL, model="other"),)),
    "the only one drains": replace(IDLE, verifiers=(replace(FULL, draining=True),)),
    "caches that nobody uses": replace(IDLE, verifiers=(replace(FULL, active_sessions=0),)),
    "no budget is known": replace(IDLE, verifiers=(replace(FULL, kv_budget_bytes=0),)),
}


@pytest.mark.parametrize("facts", ADMITTED.values(), ids=ADMITTED)
def test_admitted(facts):
    assert refusal(facts) is None


REFUSED = {
    "the queue is full": (replace(IDLE, requests=10), Overloaded),
    "the queue is more than full": (replace(IDLE, requests=99), Overloaded),
    "the tenant has its share": (
        replace(IDLE, tenant_requests=3, tenant_limit=3),
        QuotaExceeded,
    ),
    "every verifier is full": (replace(IDLE, verifiers=(FULL, FULL)), Overloaded),
    "full or busy": (replace(IDLE, verifiers=(FULL, BUSY)), Overloaded),
    "full but for one that drains": (
        replace(IDLE, verifiers=(FULL, replace(VERIFIER, draining=True))),
        Overloaded,
    ),
}


@pytest.mark.parametrize(("facts", "kind"), REFUSED.values(), ids=REFUSED)
def test_refused(facts, kind):
    refused = refusal(facts)
    assert type(refused) is kind
    assert refused.details["retry_after_ms"] == str(UNMEASURED_WAIT_MS)


def test_a_tenant_at_its_limit_is_told_of_its_own_limit_first():
    facts = replace(IDLE, requests=10, tenant_requests=3, tenant_limit=3)
    assert isinstance(refusal(facts), QuotaExceeded)


@pytest.mark.parametrize(
    ("requests", "rate", "wait_ms"),
    [
        (10, 2.0, 500),
        (11, 2.0, 1000),
        (10, 1e9, SHORTEST_WAIT_MS),
        (10, 1e-9, LONGEST_WAIT_MS),
        (10, 0.0, LONGEST_WAIT_MS),
        (10**9, 5.0, LONGEST_WAIT_MS),
    ],
)
def test_the_wait_is_measured_and_bounded(requests, rate, wait_ms):
    refused = refusal(replace(IDLE, requests=requests, requests_per_s=rate))
    assert refused.details["retry_after_ms"] == str(wait_ms)


def test_an_empty_bucket_says_when_there_is_a_token():
    refused = over_rate("acme", 0.5, 1.2344)
    assert refused.details["retry_after_ms"] == "1235"
    assert "acme" in refused.message
    assert over_rate("acme", 1e6, 1e-9).details["retry_after_ms"] == "1"


def test_pace_is_unknown_then_measured_and_sinks_while_nothing_ends():
    now = [100.0]
    pace = Pace(clock=lambda: now[0])
    assert pace.requests_per_s is None
    pace.note_end()
    assert pace.requests_per_s is None
    pace.note_end()
    assert pace.requests_per_s is None, "two at one moment are no measure"
    for _ in range(4):
        now[0] += 0.5
        pace.note_end()
    assert pace.requests_per_s == pytest.approx(5 / 2.0)
    now[0] += 8.0
    assert pace.requests_per_s == pytest.approx(5 / 10.0)


def test_pace_keeps_the_last_ends_only():
    now = [0.0]
    pace = Pace(clock=lambda: now[0])
    for _ in range(10 * KEPT_ENDS):
        now[0] += 1.0
        pace.note_end()
    assert pace.requests_per_s == pytest.approx(1.0)
