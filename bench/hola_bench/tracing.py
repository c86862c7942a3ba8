"""`hola bench tracing`: what spans cost a request, when they are off and when they go to a file.

Off is measured twice in the same interleaved runs: what the two differ by is the machine's noise,
and a cost that is smaller than that cannot be seen. A span that is off is timed by itself as well.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hola import tracing
from hola.config import Settings
from hola.types import GenerateRequest, SamplingParams, SpeculationParams, Summary
from hola_bench.report import Number, Report, rounded, spread
from hola_cli.node import Node, open_node

PROMPT = "Question: Anna has 6 boxes with 7 shells each. How many shells does Anna have?"
WARM_UP = 3
ARMS = ("off", "off again", "file")
SPANS_TIMED = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`repeats` interleaved requests of each arm, each of `max_tokens` tokens."""

    models_dir: str = ""
    model: str = "demo"
    repeats: int = 40
    max_tokens: int = 96
    seed: int = 0


def run(options: Options) -> Report:
    """Raises what opening a node raises, MissingExtra without the otel extra."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "spans.jsonl"
        took_s, rounds = asyncio.run(_measure(options, file))
        spans = len(file.read_text("utf-8").splitlines())
    off_ns = off_span_ns()
    per_round = spans / (options.repeats * rounds)
    round_ns = 1e9 * statistics.median(took_s["off"]) / rounds
    headline: dict[str, Number] = {
        "off_percent_of_a_round": rounded(100 * off_ns * per_round / round_ns),
        "off_again_over_off": _ratio(took_s["off again"], took_s["off"]),
        "file_over_off": _ratio(took_s["file"], took_s["off"]),
    }
    return Report(
        bench="tracing",
        seed=options.seed,
        repeats=options.repeats,
        headline=headline,
        details={
            "arms": [{"arm": arm, "ms": spread([1e3 * s for s in took_s[arm]])} for arm in ARMS],
            "off_span_ns": rounded(off_ns),
            "spans_per_round": rounded(per_round),
            "rounds": rounds,
            "round_ms": rounded(round_ns / 1e6),
        },
    )


def off_span_ns() -> float:
    """Nanoseconds of a span with two attributes while nothing is traced."""
    began_ns = time.perf_counter_ns()
    for number in range(SPANS_TIMED):
        with tracing.held("verify", {"hola.round": number, "hola.draft_tokens": 4}) as span:
            span.set({"hola.accepted_tokens": 3})
    return (time.perf_counter_ns() - began_ns) / SPANS_TIMED


async def _measure(options: Options, file: Path) -> tuple[dict[str, list[float]], int]:
    """Seconds per request of each arm, interleaved, and the rounds of one request."""
    settings = Settings(models_dir=options.models_dir, model=options.model)
    traced = settings.model_copy(update={"trace": f"file:{file}"})
    took_s: dict[str, list[float]] = {arm: [] for arm in ARMS}
    rounds = 0
    async with open_node(settings) as node:
        for _ in range(WARM_UP):
            _, rounds = await _request(node, options)
        for turn in range(options.repeats):
            # Each arm is first, second and last equally often.
            for arm in (*ARMS[turn % len(ARMS) :], *ARMS[: turn % len(ARMS)]):
                with tracing.exporting("bench", traced if arm == "file" else settings):
                    elapsed_s, rounds = await _request(node, options)
                took_s[arm].append(elapsed_s)
    return took_s, rounds


async def _request(node: Node, options: Options) -> tuple[float, int]:
    """Seconds and rounds of one request; the same one every time."""
    wanted = GenerateRequest(
        prompt=PROMPT,
        sampling=SamplingParams(max_tokens=options.max_tokens, temperature=1, seed=options.seed),
        speculation=SpeculationParams(max_draft_tokens=4),
    )
    rounds, began = 0, time.perf_counter()
    async for event in node.router.generate(wanted):
        rounds = event.rounds if isinstance(event, Summary) else rounds
    return time.perf_counter() - began, rounds


def _ratio(one: list[float], other: list[float]) -> float:
    """Median of the ratios of neighbours."""
    return rounded(statistics.median(a / b for a, b in zip(one, other, strict=True)))
