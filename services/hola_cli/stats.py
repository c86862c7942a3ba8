"""Says in one line how an answer was made: tokens, acceptance per tier, speed, exactness."""

from __future__ import annotations

from hola.types import Exactness, Summary

NS_PER_S = 1e9


def tokens_per_second(summary: Summary) -> float:
    """Committed tokens per second of wall time, prompt processing and queues included."""
    total_ns = summary.timings.total_ns
    return summary.completion_tokens * NS_PER_S / total_ns if total_ns else 0.0


def accepted_per_verify(summary: Summary) -> float:
    """Accepted draft tokens per verifier round, the target's own token not counted."""
    return summary.accepted_tokens / summary.rounds if summary.rounds else 0.0


def exact_word(summary: Summary) -> str:
    """`yes`, or `no` with the reason."""
    if summary.exactness is Exactness.EXACT:
        return "yes"
    if summary.exactness is Exactness.GATED:
        agreed = f"{summary.agreed_tokens}/{summary.unverified_tokens}"
        return f"no (gated: the target agrees with {agreed} unverified tokens)"
    if summary.exactness is Exactness.UNVERIFIED:
        tokens = _count(summary.unverified_tokens, "token")
        return f"no (no verifier came back: {tokens} of a draft tier's own)"
    return "no (degraded: the target's numerics changed, or never passed their probe)"


def stats_line(summary: Summary, *, exact: str | None = None) -> str:
    """The line that ends an answer. `exact` replaces what the summary says."""
    tiers = ", ".join(
        f"{tier.tier} {tier.accepted_tokens}/{tier.proposed_tokens}"
        for tier in summary.tiers[:-1]  # the last one is the target itself
        if tier.proposed_tokens
    )
    parts = [
        _count(summary.completion_tokens, "token"),
        f"accepted {summary.accepted_tokens}" + (f" ({tiers})" if tiers else ""),
        f"{tokens_per_second(summary):.1f} tokens/s",
        _count(summary.rounds, "verify call"),
    ]
    if summary.reconnects:
        parts.append(_count(summary.reconnects, "reconnect"))
    if summary.corrections:
        parts.append(_count(summary.corrections, "correction"))
    parts.append(f"exact: {exact or exact_word(summary)}")
    return " · ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
