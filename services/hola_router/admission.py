"""Decides whether a request may queue: frozen facts to None or a typed refusal, no I/O, no clock.

Three things can be short, and each is told apart: places in the queue, the tenant's own share of
them, and memory or time at the verifiers. The last is known only where verifiers announce
themselves; where none does, nothing is concluded from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hola.errors import Overloaded, QuotaExceeded
from hola.types import VerifierInfo

# A client told to come back in less would be a busy loop, in more would have given up.
SHORTEST_WAIT_MS = 100
LONGEST_WAIT_MS = 30_000
UNMEASURED_WAIT_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFacts:
    """What is known of the system's load when a request for `model` of `tenant` comes.

    Requests are counted waiting or running. `tenant_limit` 0 is none. `kv_share` is the part of a
    verifier's KV budget, 0 to 1, from which on it counts as full. `requests_per_s` is how fast
    requests end, None when too few have.
    """

    tenant: str
    model: str
    requests: int
    queue_limit: int
    tenant_requests: int = 0
    tenant_limit: int = 0
    verifiers: tuple[VerifierInfo, ...] = ()
    kv_share: float = 1.0
    requests_per_s: float | None = None


def refusal(facts: LoadFacts) -> Overloaded | None:
    """Why the request may not queue now, with `retry_after_ms`; None when it may."""
    if 0 < facts.tenant_limit <= facts.tenant_requests:
        ahead = facts.tenant_requests - facts.tenant_limit + 1
        return QuotaExceeded(
            f"{facts.tenant_requests} requests of tenant {facts.tenant} wait or run,"
            f" its limit is {facts.tenant_limit}",
            tenant=facts.tenant,
            limit=facts.tenant_limit,
            retry_after_ms=_wait_ms(ahead, facts.requests_per_s),
        )
    if facts.requests >= facts.queue_limit:
        ahead = facts.requests - facts.queue_limit + 1
        return Overloaded(
            f"{facts.requests} requests wait or run, the limit is {facts.queue_limit}",
            limit=facts.queue_limit,
            retry_after_ms=_wait_ms(ahead, facts.requests_per_s),
        )
    return _verifiers_full(facts)


def over_rate(tenant: str, rate_per_s: float, wait_s: float) -> QuotaExceeded:
    """The refusal of a request whose tenant's bucket is empty for `wait_s` more seconds."""
    return QuotaExceeded(
        f"tenant {tenant} may begin {rate_per_s:g} requests per second",
        tenant=tenant,
        rate_per_s=f"{rate_per_s:g}",
        # Rounded up: who comes a millisecond early is refused once more.
        retry_after_ms=max(1, int(wait_s * 1000) + 1),
    )


def _verifiers_full(facts: LoadFacts) -> Overloaded | None:
    """Those that drain take no sessions, but what replaces them is on its way: no signal."""
    there = [each for each in facts.verifiers if each.model == facts.model and not each.draining]
    if not there or not all(_is_full(each, facts) for each in there):
        return None
    return Overloaded(
        f"all {len(there)} verifiers of {facts.model} are full: KV memory"
        f" {_share(there):.0%} in use, {sum(each.queue_depth for each in there)} passes waiting",
        verifiers=len(there),
        retry_after_ms=_wait_ms(1, facts.requests_per_s),
    )


def _is_full(verifier: VerifierInfo, facts: LoadFacts) -> bool:
    """A verifier without any stream makes room by itself, whatever its caches hold."""
    has_no_memory = (
        verifier.kv_budget_bytes > 0
        and verifier.active_sessions > 0
        and verifier.kv_bytes >= facts.kv_share * verifier.kv_budget_bytes
    )
    return has_no_memory or verifier.queue_depth >= facts.queue_limit


def _share(verifiers: Sequence[VerifierInfo]) -> float:
    budget = sum(each.kv_budget_bytes for each in verifiers)
    return sum(each.kv_bytes for each in verifiers) / budget if budget else 0.0


def _wait_ms(ahead: int, requests_per_s: float | None) -> int:
    if requests_per_s is None:
        return UNMEASURED_WAIT_MS
    measured = 1000 * ahead / requests_per_s if requests_per_s > 0 else LONGEST_WAIT_MS
    return int(min(max(measured, SHORTEST_WAIT_MS), LONGEST_WAIT_MS))
