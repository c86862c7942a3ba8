"""Which execution provider is picked, from what onnxruntime says it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from hola.engines.providers import (
    check_provider,
    choose_providers,
    provider_name,
    usable_cores,
)
from hola.errors import ConfigError

CPU, CUDA, TENSORRT = (
    "CPUExecutionProvider",
    "CUDAExecutionProvider",
    "TensorrtExecutionProvider",
)


@pytest.mark.parametrize(
    ("wanted", "available", "chosen"),
    [
        ("auto", [CPU], (CPU,)),
        ("auto", ["AzureExecutionProvider", CPU], (CPU,)),
        ("auto", [TENSORRT, CUDA, CPU], (CUDA, CPU)),
        ("auto", [TENSORRT, CPU], (TENSORRT, CPU)),
        ("cpu", [TENSORRT, CUDA, CPU], (CPU,)),
        ("cuda", [TENSORRT, CUDA, CPU], (CUDA, CPU)),
        ("tensorrt", [TENSORRT, CUDA, CPU], (TENSORRT, CUDA, CPU)),
    ],
)
def test_choice(wanted: str, available: list[str], chosen: tuple[str, ...]) -> None:
    assert choose_providers(wanted, available) == chosen


@pytest.mark.parametrize("wanted", ["cuda", "tensorrt", "gpu", "", "CPU"])
def test_unknown_or_absent_provider_is_refused(wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_providers(wanted, [CPU])
    assert caught.value.details["provider"] == wanted


def test_short_names() -> None:
    assert [provider_name(name) for name in (CPU, CUDA, TENSORRT)] == ["cpu", "cuda", "tensorrt"]


@pytest.mark.parametrize(("wanted", "got"), [("auto", "cpu"), ("auto", "cuda"), ("cpu", "cpu")])
def test_what_was_asked_for(wanted: str, got: str) -> None:
    check_provider(wanted, got)


def test_quiet_fallback_is_an_error() -> None:
    with pytest.raises(ConfigError, match="driver"):
        check_provider("cuda", "cpu")


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("100000 100000", 1), ("50000 100000", 1), ("1 100000", 1), ("max 100000", None)],
)
def test_cores_within_a_cgroup(tmp_path: Path, quota: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert usable_cores(tmp_path) == (cores or usable_cores(tmp_path / "none"))


@pytest.mark.parametrize("text", ["", "1", "x y", "100 0"])
def test_cores_with_an_unreadable_cgroup(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert usable_cores(tmp_path) == usable_cores(tmp_path / "none") >= 1
