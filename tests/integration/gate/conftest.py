"""Logs on disk, and a gate fitted to them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.support.gate import logs


@pytest.fixture
def log_file(tmp_path) -> Path:
    """160 entries."""
    file = tmp_path / "logs.jsonl"
    rows = [dataclasses.asdict(entry) for entry in logs(160)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
