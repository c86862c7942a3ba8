"""Texts of the compression benchmark: the tier's own kind, halved, and another kind.

Every second held-out question of a family is calibration text, the same for Lo-Bi and its peers;
the others are what is measured on. The other kind is a file or a folder's *.txt given by --data.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from hola.errors import ArtifactInvalid
from hola.models.family import HELDOUT_FOLDER, Family
from hola_compressor.passes.source import Checkpoint
from hola_compressor.passes.text import Row, read_rows


def write_halves(family: Family, folder: Path, *, seed: int) -> tuple[Path, Path]:
    """Calibration and test text as two .jsonl files. Raises ArtifactInvalid when there is none."""
    files = sorted((family.path / HELDOUT_FOLDER).glob("*.jsonl"))
    if not files:
        raise ArtifactInvalid(f"{family.name} has no held-out questions", path=family.path)
    halves: tuple[list[str], list[str]] = ([], [])
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
            item = json.loads(line)
            kept = {key: item[key] for key in ("prompt", "reference", "answer")}
            halves[number % 2].append(json.dumps(kept))
    paths = folder / "calibration.jsonl", folder / "test.jsonl"
    for path, lines in zip(paths, halves, strict=True):
        random.Random(seed).shuffle(lines)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


def rows_of(path: Path, checkpoint: Checkpoint, *, tokens: int, window: int) -> list[Row]:
    """The first rows of a file, or of a folder's text files, that have so many tokens."""
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    found: list[Row] = []
    total = 0
    for file in files:
        for row in read_rows(file, checkpoint, window=window):
            if total >= tokens:
                return found
            found.append(row)
            total += len(row)
    return found
