"""Fits a gate to logs, and checks it on questions it was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hola.errors import InvalidRequest
from hola.retrieval.gate.forest import fit_forest
from hola.retrieval.gate.isotonic import fit_isotonic
from hola.retrieval.gate.logs import LogEntry
from hola.retrieval.gate.measures import gain_share
from hola.retrieval.gate.model import FAMILIES, Array, Gate, Head, Stage, family
from hola.retrieval.gate.policy import Depth
from hola.retrieval.gate.question import answer_signals, question_signals
from hola.retrieval.gate.words import WordCounts

MIN_ENTRIES = 40
MIN_PRESENT = 0.5
TREES, MIN_LEAF, FOLDS = 300, 16, 10
_CALIBRATION_BLOCKS = 30

Ints = npt.NDArray[np.int64]
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """How to fit. Every number was set once, on the gate set's dev part, and is not sensitive."""

    trees: int = TREES
    min_leaf: int = MIN_LEAF
    folds: int = FOLDS
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises InvalidRequest for an option out of range."""
        bounds = {"trees": 1, "min_leaf": 1, "folds": 2, "seed": 0}
        for name, least in bounds.items():
            if getattr(self, name) < least:
                raise InvalidRequest(f"{name} must be at least {least}", field=name)


def fit_gate(
    entries: Sequence[LogEntry],
    options: FitOptions | None = None,
    *,
    background: Sequence[str] = (),
    progress: Progress = lambda forests: None,
) -> Gate:
    """A gate with one stage per family of signals in the logs: cheapest alone, then with the next.

    DEEP is judged where every entry has a score for it. `background` holds more texts, best other
    questions, to know rare words by. `progress(n)` is called after each n forests.
    Raises InvalidRequest for fewer than MIN_ENTRIES entries, or where retrieval never changed an
    answer.
    """
    options = options or FitOptions()
    check_entries(entries)
    words = WordCounts.of([*(entry.question for entry in entries), *background])
    table = signal_table(entries, words, own=True)
    stages = tuple(
        _fit_stage(entries, table, families, options, background, progress)
        for families in stage_families(table)
    )
    return Gate(
        words=words,
        stages=stages,
        about={
            "entries": len(entries),
            "none": float(np.mean([entry.none for entry in entries])),
            "light": float(np.mean([entry.light for entry in entries])),
            "trees": options.trees,
            "min_leaf": options.min_leaf,
            "seed": options.seed,
        },
    )


def forests_of(entries: Sequence[LogEntry], options: FitOptions) -> int:
    """How many forests `fit_gate` will grow: the length of its progress bar."""
    table = signal_table(entries[:200], WordCounts(texts=0, counts={}), own=False)
    depths = len(_targets(entries))
    return len(stage_families(table)) * depths * (options.folds + 1)


def check_entries(entries: Sequence[LogEntry]) -> None:
    """Raises InvalidRequest where there is too little to learn from."""
    if len(entries) < MIN_ENTRIES:
        raise InvalidRequest(
            f"a gate needs at least {MIN_ENTRIES} logged questions, got {len(entries)}",
            field="logs",
        )
    if all(entry.light == entry.none for entry in entries):
        raise InvalidRequest(
            "retrieval never changed an answer in these logs: there is nothing to learn",
            field="logs",
        )


def signal_table(
    entries: Sequence[LogEntry], words: WordCounts, *, own: bool
) -> list[dict[str, float]]:
    """All signals of each entry; `own`: `words` was counted on these very questions."""
    table = []
    for entry in entries:
        signals = question_signals(entry.question, words, own=own)
        if entry.answer is not None:
            signals |= answer_signals(entry.question, entry.answer, words)
        table.append(signals | dict(entry.signals))
    return table


def stage_families(table: Sequence[Mapping[str, float]]) -> list[frozenset[str]]:
    """Families of each stage: q, then q with each one more that most entries have.

    What comes from one draft joins one by one: its uncertainty, the target's check, its text, and
    whether passages hold it, which takes a draft and a search but no check.
    """
    present = {
        letter
        for letter in FAMILIES
        if sum(any(family(name) == letter for name in row) for row in table)
        >= MIN_PRESENT * len(table)
    }
    stages = []
    for more in ("", "s", "u", "uc", "uca", "suca", "uh", "uch", "sucah"):
        families = frozenset({"q", *more}) & frozenset({"q", *present})
        if families not in stages:
            stages.append(families)
    return stages


def columns(
    table: Sequence[Mapping[str, float]],
    families: frozenset[str],
    without: frozenset[str] = frozenset(),
) -> tuple[str, ...]:
    """Names of those families' signals that most rows have and that differ between rows."""
    every = {name for row in table for name in row if family(name) in families}
    names = sorted(every - without)
    kept = []
    for name in names:
        values = [row[name] for row in table if name in row]
        if len(values) >= MIN_PRESENT * len(table) and len(set(values)) > 1:
            kept.append(name)
    return tuple(kept)


def matrix(
    table: Sequence[Mapping[str, float]], names: Sequence[str]
) -> tuple[Array, tuple[float, ...]]:
    """Values, shape (rows, names), and the median of each column, which stands for missing ones."""
    rows = np.array([[row.get(name, math.nan) for name in names] for row in table], np.float64)
    fill = np.nanmedian(rows, axis=0)
    return np.where(np.isnan(rows), fill, rows), tuple(map(float, fill))


def folds_of(entries: Sequence[LogEntry], folds: int, rng: np.random.Generator) -> Ints:
    """A fold for each entry; entries of one group share it. Raises InvalidRequest for one group."""
    names = [entry.group or f"\0{index}" for index, entry in enumerate(entries)]
    groups = list(dict.fromkeys(names))
    if len(groups) < 2:
        raise InvalidRequest("all entries are of one group: nothing to check on", field="logs")
    fold_of = dict(zip(groups, rng.permutation(len(groups)) % folds, strict=True))
    return np.array([fold_of[name] for name in names])


def held_out_scores(
    entries: Sequence[LogEntry],
    families: frozenset[str],
    options: FitOptions,
    *,
    depth: Depth = Depth.LIGHT,
    background: Sequence[str] = (),
    without: frozenset[str] = frozenset(),
    progress: Progress = lambda forests: None,
) -> Array:
    """Score of each entry by a forest fitted without its fold, shape (entries,).

    Signals named in `without` are left out.

    Everything is made anew for each fold, the counts of words too. Of an entry that is scored
    only its question, answer and signals are read.
    """
    rng = np.random.default_rng(options.seed)
    scores = np.zeros(len(entries))
    targets = _targets(entries)[depth]
    for inside, outside in _splits(folds_of(entries, options.folds, rng)):
        fitted = [entries[i] for i in inside]
        words = WordCounts.of([*(entry.question for entry in fitted), *background])
        table = signal_table(fitted, words, own=True)
        names = columns(table, families, without)
        rows, fill = matrix(table, names)
        asked = signal_table([entries[i] for i in outside], words, own=False)
        stage = Stage(signals=names, fill=fill, heads={}, gain_share=0.0)
        forest = fit_forest(
            rows, targets[inside], trees=options.trees, min_leaf=options.min_leaf, rng=rng
        )
        scores[outside] = forest.predict(np.array([stage.row(signals) for signals in asked]))
        progress(1)
    return scores


def _splits(fold_of: Ints) -> Iterator[tuple[Ints, Ints]]:
    for fold in np.unique(fold_of):
        yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)


def _targets(entries: Sequence[LogEntry]) -> dict[Depth, Array]:
    """What each depth changed in each answer's score."""
    none = np.array([entry.none for entry in entries], np.float64)
    targets = {Depth.LIGHT: np.array([entry.light for entry in entries], np.float64) - none}
    deep = [entry.deep for entry in entries if entry.deep is not None]
    if len(deep) == len(entries):
        targets[Depth.DEEP] = np.array(deep, np.float64) - none
    return targets


def _fit_stage(
    entries: Sequence[LogEntry],
    table: Sequence[Mapping[str, float]],
    families: frozenset[str],
    options: FitOptions,
    background: Sequence[str],
    progress: Progress,
) -> Stage:
    names = columns(table, families)
    rows, fill = matrix(table, names)
    none = np.array([entry.none for entry in entries], np.float64)
    heads, share = {}, 0.0
    for depth, target in _targets(entries).items():
        scores = held_out_scores(
            entries, families, options, depth=depth, background=background, progress=progress
        )
        rng = np.random.default_rng(options.seed)
        forest = fit_forest(rows, target, trees=options.trees, min_leaf=options.min_leaf, rng=rng)
        progress(1)
        block = max(len(entries) // _CALIBRATION_BLOCKS, 1)
        heads[depth] = Head(
            forest=forest,
            gain=fit_isotonic(scores, target, min_rows=block),
            helps=fit_isotonic(scores, (target > 0).astype(np.float64), min_rows=block),
        )
        if depth is Depth.LIGHT:
            share = gain_share(scores, none, none + target)
    return Stage(signals=names, fill=fill, heads=heads, gain_share=share)
