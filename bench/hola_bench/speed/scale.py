"""A target of real size that computes what the demo target computes, made once and kept."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

import hola_bench
from hola.errors import ArtifactInvalid, MissingExtra
from hola.models.family import Family
from hola_bench.models import Models

AUTO = "auto"
NONE = "none"
PRECISION = "int8"
MAKE_S = 1800
NEEDED = ("torch", "transformers", "onnxruntime_genai")


def scale_models(family: Family, where: str) -> Models | None:
    """The family with its target replaced by the scale target at `where`; None for "none".

    "auto" makes it in the cache folder where it is missing, which takes minutes, 5 GiB of memory
    and the compress extra. Raises MissingExtra, and ArtifactInvalid when it cannot be made or
    `where` is no model directory.
    """
    if where == NONE:
        return None
    folder = _cached(family) if where == AUTO else Path(where)
    if where == AUTO and not (folder / "genai_config.json").is_file():
        _make(family, folder)
    if not (folder / "genai_config.json").is_file():
        raise ArtifactInvalid(f"{folder} has no genai_config.json", path=folder)
    return replace(Models.of(family), name=f"{family.name}-scale", target=str(folder))


def _cached(family: Family) -> Path:
    """A folder that changes with the target's files and the precision."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "hola" / "scale" / f"{family.name}-{family.target.digest[:16]}-{PRECISION}"


def _make(family: Family, folder: Path) -> None:
    checkout = Path(hola_bench.__file__).parents[2]
    if not (checkout / "tools" / "scale_model.py").is_file():
        raise ArtifactInvalid(
            "scale models are made by tools/scale_model.py: run from a checkout of the repository, "
            "or give --scale DIR or --scale none"
        )
    _check_extra()
    part = folder.with_name(folder.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tools.scale_model", str(family.target.path), str(part)]
    with Console(stderr=True).status("making the scale model (once, some minutes)"):
        made = subprocess.run(
            [*command, "--onnx", PRECISION],
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=MAKE_S,
        )
    if made.returncode != 0:
        last = (made.stderr.strip() or "no message").splitlines()[-1]
        raise ArtifactInvalid(f"tools/scale_model.py failed: {last}")
    for weights in part.glob("*.safetensors"):  # 1.5 GB that only the export needed
        weights.unlink()
    part.rename(folder)


def _check_extra() -> None:
    from importlib.util import find_spec

    missing = [module for module in NEEDED if find_spec(module) is None]
    if missing:
        raise MissingExtra(
            f"making the scale model needs {', '.join(missing)}: pip install "
            "'hola-edge[compress]', or give --scale none",
            extra="compress",
        )
