"""Benchmarks by name, each imported only when it runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from hola.errors import InvalidRequest
from hola_bench.report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One benchmark: `module` has a function `run(options) -> Report` and a class `Options`."""

    name: str
    module: str
    summary: str
    minutes: str


BENCHES = (
    Bench(
        name="exactness",
        module="hola_bench.exactness",
        summary="is speculative output, token for token, the target's own?",
        minutes="about 20",
    ),
    Bench(
        name="speed",
        module="hola_bench.speed",
        summary="tokens/s against plain decoding, protocol overhead, bytes per token",
        minutes="about 10",
    ),
    Bench(
        name="chaos",
        module="hola_bench.chaos",
        summary="what streams lose when processes are killed, frozen, cut off and restarted",
        minutes="about 10",
    ),
    Bench(
        name="load",
        module="hola_bench.load",
        summary="64 streams of two tenants: is it fair, does memory grow, does anything get stuck?",
        minutes="about 12",
    ),
    Bench(
        name="tracing",
        module="hola_bench.tracing",
        summary="what spans cost a request, off and written to a file",
        minutes="1",
    ),
    Bench(
        name="retrieval",
        module="hola_bench.retrieval",
        summary="nDCG, recall and query time on a test set in BEIR's form",
        minutes="1",
    ),
    Bench(
        name="compression",
        module="hola_bench.compression",
        summary="Lo-Bi at several sizes against onnxruntime's and llama.cpp's quantizers",
        minutes="about 20",
    ),
)


def find(name: str) -> Bench:
    """The benchmark called `name`. Raises InvalidRequest naming the known ones."""
    for bench in BENCHES:
        if bench.name == name:
            return bench
    known = ", ".join(bench.name for bench in BENCHES)
    raise InvalidRequest(f"no benchmark is called {name!r}; known: {known}", field="name")


def run(name: str, options: object) -> Report:
    """Import the benchmark and run it with its own Options. Raises what it raises."""
    module = importlib.import_module(find(name).module)
    return cast("Callable[[object], Report]", module.run)(options)
