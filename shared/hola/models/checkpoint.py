"""A Hugging Face checkpoint directory, converted into a decoder graph by onnxruntime-genai."""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hola.errors import ArtifactCorrupt, ArtifactInvalid, InvalidRequest
from hola.extras import check_installed, require
from hola.full_disk import is_full, no_space
from hola.lifeline import tied_command

# The builder writes half precision with an attention that works in place only when asked for
# CUDA; onnxruntime runs that graph on the CPU as well.
_EXPORTED_FOR = {"int4": "cpu", "int8": "cpu", "fp16": "cuda", "fp32": "cpu"}
PRECISIONS = tuple(_EXPORTED_FOR)
_BUILDER = "onnxruntime_genai.models.builder"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_DOWNLOADED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_KEPT_LINES = 20


def convert_checkpoint(
    source: Path, destination: Path, *, precision: str, progress: Callable[[str], None]
) -> int:
    """Write `source` as an onnxruntime-genai directory; returns its number of parameters.

    Runs the builder in a process of its own: it keeps its memory and its output to itself, and the
    checkpoint's own Python code is never run. Only safetensors weights are read, since unpickling
    runs code. `progress` gets one line per step.
    Raises ArtifactInvalid (not a checkpoint, pickled weights, unsupported architecture),
    ArtifactCorrupt (a shard that is missing), NoDiskSpace, InvalidRequest (precision),
    MissingExtra.
    """
    if precision not in PRECISIONS:
        raise InvalidRequest(
            f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}",
            field="precision",
        )
    config = _read_json(source / "config.json")
    parameters = count_parameters(source)
    for module in ("onnxruntime_genai", "transformers", "torch"):
        check_installed(module, "compress")
    with tempfile.TemporaryDirectory(prefix="hola-convert-") as cache:
        _run_builder(source, destination, precision, Path(cache), progress)
    keep_context_exact(config, destination / "genai_config.json")
    return parameters


def download_checkpoint(
    hub_id: str, progress: Callable[[str], None], *, offline: bool = False
) -> Path:
    """Fetch a hub repository's configuration and safetensors; returns the local directory.

    Raises ArtifactInvalid with the hub's reason or, `offline`, without asking it; MissingExtra.
    """
    if offline:
        raise ArtifactInvalid(
            f"{hub_id} is no directory here, and HOLA_OFFLINE=1 forbids asking a hub for it"
        )
    hub = require("huggingface_hub", "compress")
    progress(f"downloading {hub_id}")
    try:
        return Path(hub.snapshot_download(hub_id, allow_patterns=list(_DOWNLOADED)))
    except Exception as error:  # the hub's errors, requests' and OSError share no base class
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ArtifactInvalid(f"{hub_id} cannot be downloaded: {reason[0]}") from error


def count_parameters(source: Path) -> int:
    """Parameters in a directory's safetensors files, from their headers.

    Raises what `weight_files` raises.
    """
    return sum(_tensor_elements(file) for file in weight_files(source))


def weight_files(source: Path) -> list[Path]:
    """The safetensors files that hold a directory's weights, each weight once.

    As transformers reads them: one file, or those of the index; some repositories hold a second
    copy beside them. Raises ArtifactInvalid when there are none, or only pickled weights;
    ArtifactCorrupt for an index that cannot be read or names a shard that is not there.
    """
    if (source / _WHOLE).is_file():
        return [source / _WHOLE]
    if (source / _INDEX).is_file():
        return _indexed(source)
    files = sorted(source.glob("*.safetensors"))
    if not files:
        pickled = sorted(file.name for pattern in _PICKLES for file in source.glob(pattern))
        if pickled:
            raise ArtifactInvalid(
                f"{source.name} has only pickled weights ({pickled[0]}), and reading those can run "
                "any code; convert them to safetensors first",
                file=pickled[0],
            )
        raise ArtifactInvalid(f"{source.name} has no safetensors weights", path=source)
    return files


def _indexed(source: Path) -> list[Path]:
    try:
        text = (source / _INDEX).read_text(encoding="utf-8")
        names = sorted(map(str, set(json.loads(text)["weight_map"].values())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactCorrupt(f"{source.name}/{_INDEX} cannot be read: {error}") from error
    for name in names:
        if "/" in name or not (source / name).is_file():
            raise ArtifactCorrupt(f"{source.name} lacks the shard {name}", file=name)
    return [source / name for name in names]


def _tensor_elements(file: Path) -> int:
    """A safetensors file begins with the length of a JSON header that lists every shape."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > file.stat().st_size:
                raise ValueError("the header is longer than the file")
            header = json.loads(stream.read(length))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        last = max((entry["data_offsets"][1] for entry in tensors), default=0)
        if file.stat().st_size != 8 + length + last:
            raise ValueError(f"{file.stat().st_size} bytes, {8 + length + last} expected")
        return sum(math.prod(entry["shape"]) for entry in tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactInvalid(f"{file.name} is not a whole safetensors file: {error}") from error


def _run_builder(
    source: Path,
    destination: Path,
    precision: str,
    cache: Path,
    progress: Callable[[str], None],
) -> None:
    # Whoever waits for it may be killed: it must not go on holding gigabytes, writing for nobody.
    command = tied_command(_BUILDER, "-i", str(source), "-o", str(destination))
    command += ["-p", precision, "-e", _EXPORTED_FOR[precision], "-c", str(cache)]
    environ = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        # Unbuffered, so that the error is the last line and not overtaken by earlier output.
        "PYTHONUNBUFFERED": "1",
    }
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    with subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as builder:
        try:
            for line in builder.stdout or ():
                if text := line.strip():
                    lines.append(text)
                    progress(f"converting {source.name}: {text[:80]}")
        except BaseException:
            builder.kill()
            raise
    if builder.returncode != 0:
        if is_full("\n".join(lines)):
            raise no_space(destination, f"the disk filled up while {source.name} was converted")
        reason = lines[-1] if lines else f"exit code {builder.returncode}"
        raise ArtifactInvalid(
            f"{source.name} cannot be converted: {reason}", output="\n".join(lines)
        )


def keep_context_exact(config: dict[str, Any], genai_config: Path) -> None:
    """Shorten the context to where the exported graph still is the checkpoint's own model.

    The builder leaves out the sliding window of models that use it in all layers (Mistral 7B
    v0.1), so beyond it the graph would attend to more than the checkpoint does. A LongRoPE model
    changes all positions at its original length (see decoder_config).
    """
    document = _read_json(genai_config)
    model = document["model"]
    bounds = [model["context_length"]]
    window = config.get("sliding_window")
    in_use = config.get("use_sliding_window", True) and "sliding_window" not in model["decoder"]
    if isinstance(window, int) and in_use:
        bounds.append(window)
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    original = config.get(
        "original_max_position_embeddings", scaling.get("original_max_position_embeddings")
    )
    if kind == "longrope" and isinstance(original, int):
        bounds.append(original)
    if min(bounds) < model["context_length"]:
        model["context_length"] = min(bounds)
        genai_config.write_text(json.dumps(document, indent=4), encoding="utf-8")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactInvalid(f"{file.parent.name}/{file.name} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ArtifactInvalid(f"{file.parent.name}/{file.name} is not an object")
    return document
