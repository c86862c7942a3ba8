"""A tiny random checkpoint with its fp32 graph, and one compressed artifact of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hola.compression.plan import parse_plan

BASE: dict[str, Any] = {
    "bits": 7.0,
    "calibration": {"tokens": 1024, "train_tokens": 1024, "window": 48},
    "quantize": {"blocks": [32], "refine": 0, "symmetric": False},
    "repair": {"steps": 2, "rows": 4},
    "recover": {"steps": 2, "rows": 4, "rank": 4},
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    from tests.support.tiny_models import write_checkpoint

    folder = tmp_path_factory.mktemp("compressor") / "llama"
    write_checkpoint(folder, tie_word_embeddings=True)
    return folder


@pytest.fixture(scope="session")
def compress(checkpoint, tmp_path_factory) -> Callable[..., Any]:
    """Run a plan, BASE with changes, in a directory of its own or the one given."""
    import torch

    from hola_compressor.passes import run

    def go(work: Path | None = None, cancelled: Callable[[], bool] = lambda: False, **changes: Any):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        seen: list[Any] = []
        try:
            plan = parse_plan({**BASE, **changes})
            folder = work or tmp_path_factory.mktemp("job")
            built = run(plan, checkpoint, folder, progress=seen.append, cancelled=cancelled)
            return built, seen
        finally:
            torch.set_num_threads(threads)

    return go


@pytest.fixture(scope="session")
def finished(compress, tmp_path_factory):
    """(work directory, Built, progress) of BASE."""
    work = tmp_path_factory.mktemp("finished")
    return work, *compress(work)
