"""A tiny random checkpoint with its fp32 graph, and one compressed artifact of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hola.compression.plan import parse_plan
from tests.support.compression import BASE


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    from tests.support.tiny_models import write_checkpoint

    folder = tmp_path_factory.mktemp("compressor") / "llama"
    # A short context: the rotary tables of a longer one would be most of so small an artifact.
    write_checkpoint(folder, tie_word_embeddings=True, max_position_embeddings=256)
    return folder


@pytest.fixture(scope="session")
def graph(checkpoint, tmp_path_factory) -> Path:
    """The checkpoint's export, made in this process: starting the builder takes seconds."""
    from tests.support.tiny_models import export

    return export(checkpoint, tmp_path_factory.mktemp("graph") / "fp32", "fp32")


@pytest.fixture(scope="session")
def compress(checkpoint, graph, tmp_path_factory) -> Callable[..., Any]:
    """Run a plan, BASE with changes, in a directory of its own or the one given.

    The pass that exports the graph is done already, unless something is pruned.
    """
    import torch

    from hola_compressor.passes import run

    def go(work: Path | None = None, cancelled: Callable[[], bool] = lambda: False, **changes: Any):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        seen: list[Any] = []
        try:
            plan = parse_plan({**BASE, **changes})
            folder = work or tmp_path_factory.mktemp("job")
            if not plan.prune.active and not (folder / "04-graph").exists():
                shutil.copytree(graph, folder / "04-graph")
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
