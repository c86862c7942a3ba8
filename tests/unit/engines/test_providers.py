"""Which execution provider is picked, from what onnxruntime says it has."""

from __future__ import annotations

import pytest

from hola.engines.providers import choose_providers, provider_name, usable_cores
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


def test_there_is_a_core() -> None:
    assert usable_cores() >= 1
