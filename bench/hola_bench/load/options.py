"""What a load run can be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run. `model` "scripted" needs no model files; `logs` keeps the processes' logs."""

    models_dir: str
    model: str
    seed: int = 0
    streams: int = 64
    minutes: float = 10.0
    verifiers: int = 2
    drafters: int = 4
    routers: int = 1
    logs: str = ""
