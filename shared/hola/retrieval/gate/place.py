"""Which gate is in force: the one fitted on this machine, else the model family's, else none."""

from __future__ import annotations

from pathlib import Path

from hola.config import Settings
from hola.retrieval.data_dir import data_dir
from hola.retrieval.gate.model import Gate

GATE_FILE = "gate.json"


def own_gate(settings: Settings) -> Path:
    """Where `hola gate fit` writes: gate.json in HOLA_DATA_DIR's folder."""
    return data_dir(settings) / GATE_FILE


def gate_in_force(settings: Settings, family: Path | None) -> Path:
    """The file to load: the own one where it is there or `family` (a folder) has none."""
    own = own_gate(settings)
    if family is not None and not own.is_file() and (family / GATE_FILE).is_file():
        return family / GATE_FILE
    return own


def find_gate(settings: Settings, family: Path | None) -> Gate | None:
    """The gate in force; None where nobody has fitted one. Raises ArtifactInvalid."""
    file = gate_in_force(settings, family)
    return Gate.load(file) if file.is_file() else None
