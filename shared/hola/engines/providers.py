"""Which onnxruntime execution provider runs a graph, and with which session options."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from hola.errors import ConfigError

_PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
# TensorRT compiles anew for every width and cache length and does not take over the attention
# operator, so it is last among the accelerators unless asked for by name.
_AUTO = ("cuda", "tensorrt", "cpu")
_FALLBACKS = {"tensorrt": ("tensorrt", "cuda", "cpu"), "cuda": ("cuda", "cpu"), "cpu": ("cpu",)}
PROVIDER_NAMES = ("auto", *_PROVIDERS)


def choose_providers(wanted: str, available: list[str]) -> tuple[str, ...]:
    """onnxruntime's names for a session, most wanted first.

    Raises ConfigError when `wanted` is unknown or not in this build of onnxruntime.
    """
    if wanted not in PROVIDER_NAMES:
        raise ConfigError(
            f"provider {wanted!r} is unknown; choose one of {', '.join(PROVIDER_NAMES)}",
            provider=wanted,
        )
    if wanted == "auto":
        wanted = next(name for name in _AUTO if _PROVIDERS[name] in available or name == "cpu")
    elif _PROVIDERS[wanted] not in available:
        raise ConfigError(
            f"provider {wanted} is not in this onnxruntime, which has {', '.join(available)}",
            provider=wanted,
            available=", ".join(available),
        )
    return tuple(_PROVIDERS[name] for name in _FALLBACKS[wanted] if _PROVIDERS[name] in available)


def provider_name(execution_provider: str) -> str:
    """Our short name of onnxruntime's, e.g. "cpu"."""
    return next((name for name, full in _PROVIDERS.items() if full == execution_provider), "cpu")


def check_provider(wanted: str, got: str) -> None:
    """Raise ConfigError when onnxruntime quietly fell back from an accelerator asked for by name.

    It does so when the provider is built in but its driver or libraries cannot be loaded.
    """
    if wanted != "auto" and wanted != got:
        raise ConfigError(
            f"provider {wanted} could not be started (driver or libraries missing); got {got}",
            provider=wanted,
            got=got,
        )


def usable_cores(cgroup_root: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores this process may use: its affinity, and its cgroup's share of CPU time rounded up."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = (cgroup_root / "cpu.max").read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # "max", or no cgroup v2: no limit
        return cores


def session_options(ort: Any, *, threads: int, allow_spinning: bool) -> Any:
    """onnxruntime.SessionOptions for a decoder; `ort` is the onnxruntime module.

    Memory patterns are off: they are cached per set of input shapes, and the attention mask has
    another length at every step.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # what fails is raised, and said once
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "1" if allow_spinning else "0"
    )
    return options
