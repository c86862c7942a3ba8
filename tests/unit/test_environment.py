"""What `import hola` leaves in the environment for the libraries that read it."""

from __future__ import annotations

import importlib
import os

import pytest

import hola

POLLER = "event_engine_poller_for_python"


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("", POLLER),
        (POLLER, POLLER),
        ("error_flatten", f"error_flatten,{POLLER}"),
        (f"-{POLLER}", f"-{POLLER}"),
    ],
)
def test_grpc_polls_with_its_event_engine_unless_told_not_to(
    monkeypatch: pytest.MonkeyPatch, given: str, left: str
) -> None:
    monkeypatch.setenv("GRPC_EXPERIMENTS", given)
    importlib.reload(hola)
    assert os.environ["GRPC_EXPERIMENTS"] == left


def test_who_wants_grpcs_support_for_forks_keeps_its_old_poller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GRPC_ENABLE_FORK_SUPPORT", raising=False)
    importlib.reload(hola)
    assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "0"
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "1")
    monkeypatch.setenv("GRPC_EXPERIMENTS", "")
    importlib.reload(hola)
    assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "1"
    assert os.environ["GRPC_EXPERIMENTS"] == ""


@pytest.mark.parametrize("name", ["ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"])
def test_telemetry_is_off_unless_switched_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name, raising=False)
    importlib.reload(hola)
    assert os.environ[name] == "1"
    monkeypatch.setenv(name, "0")
    importlib.reload(hola)
    assert os.environ[name] == "0"
