"""Tiny random checkpoints and exports to add as models, each built once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_models import exported


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory."""
    root = tmp_path_factory.mktemp("tiny-models")
    exported(root, "llama", "int8")
    return root / "llama"


@pytest.fixture(scope="session")
def genai_directory(checkpoint: Path) -> Path:
    """The same model as an onnxruntime-genai directory."""
    return checkpoint.parent / "llama-int8"
