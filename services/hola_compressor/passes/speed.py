"""How fast an artifact runs and what memory it takes, beside the original's graph."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path

from hola.compression.report import REPORT_FILE, Report, Speed, read_report, write_report
from hola.engines.onnx import OnnxEngine
from hola_compressor.passes.codes import Scheme
from hola_compressor.passes.peak import peak_bytes

_TIMED_TOKENS, _TIMED_RUNS = 64, 5


def with_speed(folder: Path, original: Path) -> Report:
    """The artifact's report with tokens/s and memory of it and of the original, measured once.

    Runs take turns; memory is that of a process each. Written into the artifact's report, which is
    no part of its digest: a job that is resumed has the same artifact and times of its own.
    Raises EngineFailure.
    """
    report = read_report(folder / REPORT_FILE)
    if report.speed is not None:
        return report
    engines = [OnnxEngine(path) for path in (folder, original)]
    try:
        times: list[list[tuple[float, float]]] = [[], []]
        for _ in range(_TIMED_RUNS):
            for engine, found in zip(engines, times, strict=True):
                found.append(_timed(engine))
        (prefill, decode), (old_prefill, old_decode) = (
            [statistics.median(column) for column in zip(*found, strict=True)] for found in times
        )
    finally:
        for engine in engines:
            engine.close()
    resident = report.overhead_bytes + sum(
        Scheme(bits=t.bits, block=t.block, symmetric=t.symmetric).kernel_bytes(t.rows, t.columns)
        for t in report.tensors
    )
    speed = Speed(
        prefill_tokens_per_s=prefill,
        decode_tokens_per_s=decode,
        original_prefill_tokens_per_s=old_prefill,
        original_decode_tokens_per_s=old_decode,
        resident_bytes=resident,
        peak_bytes=peak_bytes(folder),
        original_peak_bytes=peak_bytes(original),
    )
    report = replace(report, speed=speed)
    write_report(report, folder / REPORT_FILE)
    return report


def _timed(engine: OnnxEngine) -> tuple[float, float]:
    """Tokens/s of prefill in one chunk and of decoding one by one."""
    count = min(_TIMED_TOKENS, engine.info.context_length // 2)
    tokens = [1 + at % (engine.info.vocab_size - 1) for at in range(count)]
    session = engine.open(2 * count)
    try:
        began = time.perf_counter()
        session.prefill(tokens)
        middle = time.perf_counter()
        for token in tokens[: count // 2]:
            session.forward([token])
        end = time.perf_counter()
    finally:
        session.close()
    return count / (middle - began), (count // 2) / (end - middle)
