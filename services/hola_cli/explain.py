"""A plan in words for people: numbered sources, and why they, and no others, were read."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from hola.types import Citation, Plan, RetrievalPlan
from hola_cli.answer import Answer
from hola_cli.paint import harmless

_SHOWN_CHARS = 160
_SHOWN_CUTS = 8


def source_lines(plan: Plan) -> Iterator[str]:
    """One line per passage that stands in the prompt: its number, where it is from, its text."""
    for citation in plan.citations:
        yield harmless(f"[{citation.number}] {_where(citation)}: {_short(citation.text)}")


def print_sources(answer: Answer) -> None:
    """The passages that an answer was written from, on stderr: stdout has the answer alone."""
    if answer.started is not None and answer.started.plan is not None:
        for line in source_lines(answer.started.plan):
            print(line, file=sys.stderr)


def explanation(plan: Plan) -> Iterator[str]:
    """The whole plan: decision, signals, costs, what was kept and what was cut."""
    yield f"retrieval: {plan.depth.name.lower()} (asked for: {plan.mode.name.lower()})"
    yield from (f"  {harmless(reason)}" for reason in plan.reasons)
    yield from (f"  note: {harmless(note)}" for note in plan.notes)
    if plan.judged_by:
        yield f"judged by: {', '.join(plan.judged_by)}"
    for weight in plan.weights:
        yield (
            f"  {weight.depth.name.lower()}: gain {weight.gain:+.3f}, helps {weight.helps:.2f},"
            f" costs {weight.cost_ms:.0f} ms, net {weight.net:+.3f}"
        )
    signals = [f"{name} {value:.3g}" for name, value in sorted(plan.signals.items()) if value]
    if signals:
        yield f"signals that are not 0: {harmless(', '.join(signals))}"
    if plan.depth is not RetrievalPlan.NONE:
        yield f"passages: {plan.passage_tokens} of at most {plan.token_budget} prompt tokens"
    yield from _passages("kept", plan.citations)
    yield from _passages("cut", plan.cuts[:_SHOWN_CUTS])
    if len(plan.cuts) > _SHOWN_CUTS:
        yield f"  cut {len(plan.cuts) - _SHOWN_CUTS} more (--json has them)"
    speed = f"{plan.prefill_ms_per_token:.2f} ms per prompt token, measured by the verifier"
    yield (
        f"time: search {plan.search_ms:.1f} ms, gate {plan.gate_ms:.1f} ms; the target reads at "
        + (speed if plan.prefill_ms_per_token else "a speed nobody has measured")
    )


def _passages(word: str, citations: tuple[Citation, ...]) -> Iterator[str]:
    for citation in citations:
        pairs = (("bm25", citation.bm25), ("dense", citation.dense))
        scores = [f"{name} {value:.3g}" for name, value in pairs if value is not None]
        ranges = [f"{begin}-{end}" for begin, end in citation.ranges]
        number = f" [{citation.number}]" if citation.number else ""
        parts = [
            f"{_where(citation)} in {citation.collection}",
            *scores,
            *([f"{citation.tokens} tokens"] if citation.tokens else []),
            *([f"characters {' '.join(ranges)}"] if ranges else []),
            *([citation.cut] if citation.cut else []),
        ]
        yield harmless(f"  {word}{number} {', '.join(parts)}")


def _where(citation: Citation) -> str:
    page = f", page {citation.page}" if citation.page else ""
    title = f" ({citation.title})" if citation.title else ""
    return f"{citation.source}{page}{title}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}..."
