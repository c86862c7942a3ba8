"""Exports of tiny random checkpoints, each built once per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.tiny_models import exported


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the checkpoints (by architecture) and exports are."""
    return tmp_path_factory.mktemp("tiny-models")


@pytest.fixture(scope="session")
def export_of(tiny_models: Path) -> Callable[[str, str], Path]:
    """A function from (architecture, precision) to an onnxruntime-genai directory."""
    return lambda architecture, precision: exported(tiny_models, architecture, precision)
