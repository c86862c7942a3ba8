"""A job's directory: what each finished pass left, written in one step, read by the next run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hola_compressor.passes.codes import Coded, Scheme

_PARTS = ("codes", "scales", "unit", "zeros")


class Kept:
    """Results of passes by name, each a folder that appears whole or not at all."""

    def __init__(self, work: Path) -> None:
        self._work = work
        work.mkdir(parents=True, exist_ok=True)
        for part in work.glob(".*.part"):  # of a run that was killed
            shutil.rmtree(part)

    def folder(self, name: str, make: Callable[[Path], None]) -> Path:
        """The pass's folder; `make` fills it unless it is there already."""
        final = self._work / name
        if not final.is_dir():
            part = self._work / f".{name}.part"
            part.mkdir()
            make(part)
            for file in part.rglob("*"):
                if file.is_file():
                    _flush(file)
            part.rename(final)
            _flush(self._work)
        return final

    def document(self, name: str, make: Callable[[], Any]) -> Any:
        """A pass's result as JSON's own types. What is made is read back, so a rerun is equal."""

        def write(folder: Path) -> None:
            (folder / "result.json").write_text(json.dumps(make()), encoding="utf-8")

        return json.loads((self.folder(name, write) / "result.json").read_text(encoding="utf-8"))

    def tensors(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """A pass's result as named tensors."""

        def write(folder: Path) -> None:
            made = {key: value.contiguous() for key, value in make().items()}
            save_file(made, str(folder / "result.safetensors"))

        return load_file(str(self.folder(name, write) / "result.safetensors"))

    def codes(self, name: str, make: Callable[[], Mapping[str, Coded]]) -> dict[str, Coded]:
        """A pass's result as coded matrices."""

        def write(folder: Path) -> None:
            found = make()
            tensors = {
                f"{unit}:{part}": getattr(coded, part).contiguous()
                for unit, coded in found.items()
                for part in _PARTS
            }
            heads = {
                unit: [c.scheme.bits, c.scheme.block, c.scheme.symmetric, c.columns]
                for unit, c in found.items()
            }
            save_file(tensors, str(folder / "result.safetensors"))
            (folder / "result.json").write_text(json.dumps(heads), encoding="utf-8")

        folder = self.folder(name, write)
        heads = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        file = folder / "result.safetensors"
        tensors = load_file(str(file)) if heads else {}
        return {unit: _coded(unit, head, tensors) for unit, head in heads.items()}


def _coded(unit: str, head: list[int], tensors: Mapping[str, torch.Tensor]) -> Coded:
    bits, block, symmetric, columns = head
    parts = {part: tensors[f"{unit}:{part}"] for part in _PARTS}
    scheme = Scheme(bits=bits, block=block, symmetric=bool(symmetric))
    return Coded(scheme=scheme, columns=columns, **parts)


def _flush(path: Path) -> None:
    """On the disk before the rename, so that a power cut leaves no half-written result."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
