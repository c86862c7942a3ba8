"""Runs commands in this process and leaves logging as it was."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from hola_cli.main import app

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    """A command configures logging for its process; the next test starts afresh."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def run() -> Run:
    """`run("generate", "hi", input=..., env=...)`: the command's result."""

    def run(*arguments: str, **options: object) -> Result:
        return CliRunner().invoke(app, list(arguments), **options)  # type: ignore[arg-type]

    return run


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
