"""Which sets `--data` names: each path itself, or the folders right below it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hola.errors import ArtifactInvalid

GATE, CONTEXT = "gate*.jsonl", "ctx*.jsonl*"
_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """Folders in BEIR's form, and folders or files with gate and context sets."""

    beir: tuple[Path, ...]
    gate: tuple[Path, ...]
    context: tuple[Path, ...]


def find_sets(data: Sequence[str]) -> Sets:
    """The sets at each path, or where there are none, right below it; sorted below a path.

    Raises ArtifactInvalid for a path that leads to none.
    """
    found: list[Path] = []
    for name in data:
        path = Path(name)
        below = sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []
        here = [path] if _is_set(path) else [child for child in below if _is_set(child)]
        if not here:
            raise ArtifactInvalid(
                f"no test set in {path}: neither corpus.jsonl (BEIR's form) nor {GATE} nor "
                f"{CONTEXT}, there or one folder below",
                path=path,
            )
        found += here
    places = list(dict.fromkeys(found))
    return Sets(
        beir=tuple(filter(_is_beir, places)),
        gate=tuple(filter(lambda place: bool(gate_files(place)), places)),
        context=tuple(filter(lambda place: bool(context_files(place)), places)),
    )


def gate_files(place: Path) -> list[Path]:
    """The gate sets in a folder, or the file itself where its name says that it is one."""
    return list(_files(place, GATE, lambda name: name.startswith("gate")))


def context_files(place: Path) -> list[Path]:
    """The context sets in a folder, or the file itself where its name says that it is one."""
    return list(_files(place, CONTEXT, lambda name: name.startswith("ctx")))


def _files(place: Path, pattern: str, belongs: Callable[[str], bool]) -> Iterator[Path]:
    if place.is_file():
        if belongs(place.name):
            yield place
        return
    yield from sorted(place.glob(pattern))


def _is_beir(place: Path) -> bool:
    return any((place / name).is_file() for name in _CORPUS)


def _is_set(place: Path) -> bool:
    return _is_beir(place) or bool(gate_files(place)) or bool(context_files(place))
