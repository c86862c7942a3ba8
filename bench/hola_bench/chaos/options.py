"""What a chaos run can be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run. `network` is auto, namespaces or relays; `logs` keeps the processes' logs.

    `rolling` > 0 takes the place of the faults: so many rolling restarts of the verifiers.

    `model` "scripted" needs no model files.
    """

    models_dir: str
    model: str
    seed: int = 0
    streams: int = 200
    faults: int = 100
    together: int = 6
    verifiers: int = 2
    drafters: int = 3
    routers: int = 2
    rolling: int = 0
    network: str = "auto"
    logs: str = ""
