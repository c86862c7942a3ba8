"""What others make of the same checkpoint: onnxruntime's quantizers, GPTQModel, llama.cpp's."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from hola.engines.onnx import OnnxEngine
from hola_bench.compression.ggml import RECIPES, Ggml, find_library
from hola_bench.compression.scores import Score, Scorer
from hola_compressor.passes.text import Row
from hola_compressor.passes.units import parameter
from hola_compressor.passes.verdict import artifact_bytes

# Name and the builder's options; the head and the embedding share their codes where it can.
BUILDER: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ORT int4 default b32": ("int4", ("block_size=32",)),
    "ORT int4 default b128": ("int4", ("block_size=128",)),
    "ORT int4 rtn b32": ("int4", ("block_size=32", "algo_config=rtn")),
    "ORT int4 rtn b128": ("int4", ("block_size=128", "algo_config=rtn")),
    "ORT int4 k_quant b32": ("int4", ("block_size=32", "algo_config=k_quant")),
    "ORT int4 k_quant_mixed b32": ("int4", ("block_size=32", "algo_config=k_quant_mixed")),
    "ORT int8 b32": ("int8", ("block_size=32",)),
}
QUICK = ("ORT int4 rtn b32",)
# Names a Python that has GPTQModel; bench/peers/gptq.sh makes one.
GPTQ_PYTHON = "GPTQMODEL_PYTHON"
GPTQ: Mapping[str, int] = {"GPTQ int4 b32": 32, "GPTQ int4 b128": 128}
_GPTQ_SCRIPT = Path(__file__).parents[2] / "peers" / "gptq.py"


def builder_peers(
    source: Path, work: Path, scorer: Scorer, names: list[str], say: Callable[[str], None]
) -> tuple[list[Score], dict[str, str]]:
    """Artifacts of onnxruntime-genai's builder, run as they are; and why some are missing."""
    found, missing = [], {}
    for name in names:
        precision, options = BUILDER[name]
        folder = work / name.replace(" ", "-")
        say(f"peer {name}")
        reason = _build(source, folder, precision, options) if not folder.is_dir() else ""
        if reason:
            missing[name] = reason
        else:
            found.append(_scored(name, folder, scorer))
    return found, missing


def gptq_peers(
    source: Path, work: Path, rows: Sequence[Row], scorer: Scorer, say: Callable[[str], None]
) -> tuple[list[Score], dict[str, str]]:
    """GPTQModel's checkpoints, made on `rows`, through the builder; and why some are missing."""
    python = os.environ.get(GPTQ_PYTHON, "")
    if not Path(python).is_file():
        return [], dict.fromkeys(GPTQ, "no GPTQModel; see bench/peers/gptq.sh")
    text = work / "gptq-rows.json"
    text.write_text(json.dumps(list(rows)), encoding="utf-8")
    found, missing = [], {}
    for name, block in GPTQ.items():
        say(f"peer {name}")
        folder = work / name.replace(" ", "-")
        checkpoint = folder.with_name(f"{folder.name}-checkpoint")
        reason = ""
        if not folder.is_dir():
            files = [path.absolute() for path in (_GPTQ_SCRIPT, source, text, checkpoint)]
            command = [python, *map(str, files), str(block)]
            reason = _failure(command, work)  # it writes a folder of logs where it runs
            reason = reason or _build(checkpoint, folder, "int4", ())
        if reason:
            missing[name] = reason
        else:
            found.append(_scored(name, folder, scorer))
    return found, missing


def _scored(name: str, folder: Path, scorer: Scorer) -> Score:
    engine = OnnxEngine(folder)
    try:
        return scorer.of_engine(name, engine, artifact_bytes(folder))
    finally:
        engine.close()


def ggml_peers(
    model: nn.Module,
    squares: Mapping[str, Tensor],
    scorer: Scorer,
    say: Callable[[str], None],
    recipes: tuple[str, ...] = RECIPES,
) -> tuple[list[Score], dict[str, object]]:
    """llama.cpp's recipes; `squares` are mean squared inputs by layer name (the imatrix).

    Also what was used: types per recipe, or why there is nothing.
    """
    library = find_library()
    if library is None:
        return [], {"llama.cpp": "not found; see bench/peers/ggml.sh"}
    ggml = Ggml(library)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    weights = {name: parameter(model, name).detach() for name in names}
    rest = 4 * sum(p.numel() for p in model.parameters() if p.dim() == 1)
    found: list[Score] = []
    used: dict[str, object] = {}
    for recipe in recipes:
        for name, imatrix in ((recipe, {}), (f"{recipe}+imatrix", squares)):
            say(f"peer llama.cpp {name}")
            made = ggml.quantize(weights, recipe, imatrix)
            expanded = copy.deepcopy(model)
            for layer, weight in made.weights.items():
                parameter(expanded, layer).data.copy_(weight)
            found.append(scorer.of_model(f"llama.cpp {name}", expanded, made.bytes + rest))
            used[recipe] = ", ".join(f"{kind} x{count}" for kind, count in made.types.items())
    return found, used


def _build(source: Path, folder: Path, precision: str, options: tuple[str, ...]) -> str:
    """Run the builder; the reason where it fails."""
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(source)]
    command += ["-o", str(folder), "-p", precision, "-e", "cpu", "-c", str(folder) + "-cache"]
    shared = ("shared_embeddings=true",) if precision == "int4" else ()
    command += ["--extra_options", "accuracy_level=4", *options, *shared]
    return _failure(command)


def _failure(command: Sequence[str], folder: Path | None = None) -> str:
    """Run a command, in a folder if need be; its last line where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return lines[-1][:200]
    return ""
