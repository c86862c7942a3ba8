"""Decoder engines behind one protocol, each loaded only when asked for."""

from __future__ import annotations

from pathlib import Path

from hola.errors import ArtifactInvalid
from hola.ports import Engine

SCRIPTED_PREFIX = "scripted:"


def load_engine(
    path: Path | str,
    *,
    provider: str = "auto",
    threads: int | None = None,
    memory_budget_bytes: int | None = None,
) -> Engine:
    """Load the decoder at `path`: a directory with genai_config.json, or "scripted:seed=1,...".

    `provider` is auto, cpu, cuda or tensorrt; `threads` None means one per usable core.
    `memory_budget_bytes` bounds weights and KV caches of this engine together, None means what the
    machine has free. A scripted engine takes none of the three.
    Raises ArtifactInvalid, MemoryBudgetExceeded, MissingExtra, ConfigError (unknown provider).
    """
    if isinstance(path, str) and path.startswith(SCRIPTED_PREFIX):
        from hola.engines.scripted import ScriptedEngine

        return ScriptedEngine.from_spec(path)
    directory = Path(path)
    if not (directory / "genai_config.json").is_file():
        raise ArtifactInvalid(
            f"{directory.name} is not a model directory: it has no genai_config.json",
            path=directory,
        )
    from hola.engines.onnx import OnnxEngine

    return OnnxEngine(
        directory,
        provider=provider,
        threads=threads,
        memory_budget_bytes=memory_budget_bytes,
    )
