"""Tiers to measure: scripted ones, and the demo family of the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from hola_bench.models import Models

SCRIPT = "seed=1,vocab_size=300"


@pytest.fixture
def scripted() -> Models:
    """A target and two noisy copies, without model files."""
    target = f"scripted:{SCRIPT}"
    drafts = (("tiny", f"{target},noise=0.7"), ("small", f"{target},noise=0.3"))
    return Models(name=target, target=target, drafts=drafts)


@pytest.fixture
def demo_models_dir(repo_root: Path, request: pytest.FixtureRequest) -> str:
    """The folder with the demo family; a checkout without it cannot run everything."""
    folder = repo_root / "models"
    if not (folder / "demo/hola.json").is_file():
        missing = "models/demo is not in this checkout"
        if request.config.getoption("--require-all"):
            pytest.fail(missing)
        pytest.skip(missing)
    return str(folder)
