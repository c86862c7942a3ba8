"""Certificates in a folder, files looked at without delay, and what a caller is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from hola.security import watched
from tests.support.security import Pki


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    """An authority that has certified a server, `verifier`, and a caller, `drafter`."""
    made = Pki.at(tmp_path / "pki")
    made.issue("verifier")
    made.issue("drafter", "drafter")
    return made


@pytest.fixture(autouse=True)
def _files_are_looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "LOOK_EVERY_S", 0.0)
