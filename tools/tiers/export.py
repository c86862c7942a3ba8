"""Writes the family directory: safetensors, ONNX, held-out sets, exposures and manifest."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.tiers import corpus, heldout, tokenizer as vocabulary
from tools.tiers.feed import Position
from tools.tiers.model import count_parameters, load_checkpoint, save_hf
from tools.tiers.world import BUCKETS, KNOWLEDGE

LADDER = ("draft", "mid")
TARGET = "target"
# As tools.tiers.corpus.with_passage writes it.
PASSAGE_TEMPLATE = (
    "{% for passage in passages %}Passage: {{ passage.text }}\n{% endfor %}"
    "{{ '' if question.startswith('Question:') else 'Question: ' }}{{ question }}"
)
DESCRIPTION = (
    "Demo tiers trained from scratch on text the HOLA project generates itself: small-number "
    "word problems, reading, a fictional knowledge base and multiple choice."
)


def build_onnx(folder: Path, quantization: str) -> None:
    """Export a tier directory in place with the onnxruntime-genai builder."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "onnx"
        command = [
            sys.executable,
            "-m",
            "onnxruntime_genai.models.builder",
            "-i",
            str(folder),
            "-o",
            str(out),
            "-p",
            quantization,
            "-e",
            "cpu",
            "-c",
            str(Path(scratch) / "cache"),
        ]
        if quantization != "fp32":
            command += ["--extra_options", "accuracy_level=4", "block_size=32"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the builder failed:\n{done.stderr[-2000:]}")
        for name in ("model.onnx", "model.onnx.data", "genai_config.json"):
            shutil.copyfile(out / name, folder / name)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe(folder: Path, parameters: int, quantization: str) -> dict[str, object]:
    """One tier's entry in the manifest."""
    files = {
        p.name: {"bytes": p.stat().st_size, "sha256": digest(p)}
        for p in sorted(folder.iterdir())
        if p.is_file()
    }
    return {
        "path": folder.name,
        "parameters": parameters,
        "quantization": quantization,
        "files": files,
    }


def exposures(position: Position) -> dict[str, object]:
    """How often each fact was really consumed on the way to this model."""
    table: list[dict[str, object]] = []
    number = 0
    counts: dict[int, list[int]] = {b: [] for b in BUCKETS}
    for entity in KNOWLEDGE:
        seen = [position.exposures[number + i] for i in range(len(entity.facts))]
        number += len(seen)
        counts[entity.bucket] += seen
        table.append(
            {
                "entity": entity.name,
                "bucket": entity.bucket,
                "facts": {f.key: [f.value, n] for f, n in zip(entity.facts, seen, strict=True)},
            }
        )
    summary = {
        str(b): {"facts": len(n), "mean": round(sum(n) / len(n), 2), "min": min(n), "max": max(n)}
        for b, n in counts.items()
    }
    return {
        "about": "exposures of each fact in the text consumed by the target and its ancestors",
        "tokens": position.tokens,
        "tokens_per_task": dict(position.tasks),
        "buckets": summary,
        "entities": table,
    }


def write_tier(
    checkpoint: Path, folder: Path, tokenizer_folder: Path, quantization: str
) -> tuple[dict[str, object], Position]:
    """One tier: weights, tokenizer, graph."""
    model, stored = load_checkpoint(checkpoint)
    save_hf(model, folder)
    vocabulary.save(vocabulary.load(tokenizer_folder), folder)
    build_onnx(folder, quantization)
    return describe(folder, count_parameters(model), quantization), stored["position"]


def write_family(
    checkpoints: dict[str, Path],
    quantization: dict[str, str],
    tokenizer_folder: Path,
    out: Path,
    scale: float = 1.0,
) -> None:
    """All tiers, the held-out sets, the exposure table and the manifest."""
    heldout.save(out / "heldout", scale)
    tiers = {}
    for name in (*LADDER, TARGET):
        entry, position = write_tier(
            checkpoints[name], out / name, tokenizer_folder, quantization[name]
        )
        tiers[name] = entry
        if name == TARGET:
            text = json.dumps(exposures(position), separators=(",", ":"))
            (out / "exposure.json").write_text(text + "\n")
    manifest = {
        "format": 1,
        "name": "demo",
        "license": "Apache-2.0",
        "description": DESCRIPTION,
        "target": TARGET,
        "ladder": list(LADDER),
        "tokenizer_sha256": digest(out / TARGET / "tokenizer.json"),
        "special_tokens": list(vocabulary.SPECIALS),
        "eos": corpus.EOS,
        "passage_template": PASSAGE_TEMPLATE,
        "tiers": tiers,
    }
    (out / "hola.json").write_text(json.dumps(manifest, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    for name in (*LADDER, TARGET):
        parser.add_argument(f"--{name}", type=Path, required=True, help="checkpoint")
        parser.add_argument(
            f"--{name}-quantization", default="int8", choices=("fp32", "int8", "int4")
        )
    args = vars(parser.parse_args())
    names = (*LADDER, TARGET)
    write_family(
        {n: args[n] for n in names},
        {n: args[f"{n}_quantization"] for n in names},
        args["tokenizer"],
        args["out"],
    )


if __name__ == "__main__":
    main()
