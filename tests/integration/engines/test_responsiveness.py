"""While onnxruntime computes, Python goes on: health checks and cancellation are answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hola.engines.onnx import OnnxEngine

pytestmark = pytest.mark.torch


def test_a_forward_pass_does_not_hold_the_interpreter(
    export_of: Callable[[str, str], Path],
) -> None:
    """Another thread counts; it must get on between the beginning and the end of runs."""
    engine = OnnxEngine(export_of("llama", "fp32"), threads=1)
    session = engine.open(512)
    run = session.run
    counted = 0
    during: list[int] = []

    def watched(binding: Any) -> None:
        before = counted
        run(binding)
        during.append(counted - before)

    def compute() -> None:
        for _ in range(40):
            session.truncate(0)
            session.prefill(range(3, 67))

    session.run = watched
    worker = threading.Thread(target=compute)
    worker.start()
    while worker.is_alive():
        counted += 1
    worker.join()
    assert len(during) == 40
    assert sum(during) > 0
