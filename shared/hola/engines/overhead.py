"""What a decoding step costs in Python, beyond the time inside onnxruntime's run."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

from hola.engines.onnx import OnnxEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Milliseconds per step, medians over `steps`: in all, inside run, and the difference."""

    steps: int
    step_ms: float
    run_ms: float
    overhead_ms: float
    overhead_p99_ms: float


def measure_overhead(engine: OnnxEngine, *, width: int = 1, steps: int = 1000) -> Overhead:
    """Time `steps` forward passes of `width` tokens each, with onnxruntime's run timed apart.

    Positions run through the whole context, as in decoding. Opens and closes one session.
    """
    session = engine.open(engine.info.context_length)
    inside: list[int] = []
    run = session.run

    def timed_run(binding: Any) -> None:
        started = time.perf_counter_ns()
        run(binding)
        inside.append(time.perf_counter_ns() - started)

    session.run = timed_run
    tokens = [(7 * i + 3) % engine.info.vocab_size for i in range(width)]
    session.forward(tokens)  # binds the buffers of this width
    inside.clear()
    whole: list[int] = []
    for _ in range(steps):
        if session.length + width > session.capacity:
            session.truncate(0)
        started = time.perf_counter_ns()
        session.forward(tokens)
        whole.append(time.perf_counter_ns() - started)
    session.close()
    beyond = [total - part for total, part in zip(whole, inside, strict=True)]
    return Overhead(
        steps=steps,
        step_ms=statistics.median(whole) / 1e6,
        run_ms=statistics.median(inside) / 1e6,
        overhead_ms=statistics.median(beyond) / 1e6,
        overhead_p99_ms=sorted(beyond)[int(0.99 * (steps - 1))] / 1e6,
    )
