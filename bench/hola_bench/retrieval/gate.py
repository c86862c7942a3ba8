"""How well a gate knows beforehand which questions retrieval helps, on answers logged elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.errors import ArtifactInvalid
from hola.retrieval.gate.fit import (
    FitOptions,
    check_entries,
    held_out_scores,
    signal_table,
    stage_families,
)
from hola.retrieval.gate.logs import LogEntry
from hola.retrieval.gate.measures import auroc, bootstrap_gains, curve, gain_share
from hola.retrieval.gate.model import FAMILIES
from hola.retrieval.gate.words import WordCounts
from hola_bench.report import Number, rounded
from hola_bench.retrieval.gate_rows import SINGLE_HOP, GateRow, read_rows
from hola_bench.retrieval.sets import gate_files

Array = npt.NDArray[np.float64]
QUESTION = frozenset("q")
REPEATS, TREES = 3, 300
ABLATION_TREES = 100
# Signals of the question by what they look at, for the ablation.
_KINDS = {
    "lengths": r"q_(chars|words|content_words|word_chars|longest_word|stop_share|the)",
    "capitals": r"q_(starts_upper|capitals|capital_words)",
    "marks": r"q_(quotes|commas|apostrophes|foreign|question_mark|spaced_mark)",
    "numbers": r"q_(digit|year|how_many)",
    "kind": r"q_(asks_at|asks_first|yes_no|one_of_many|who|what|when|where|which|how|why)",
    "rarity": r"q_(rarity_\w+|unseen)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """What to measure: a folder with gate*.jsonl or one such file; `repeats` ways to fold it."""

    data: str
    repeats: int = REPEATS
    trees: int = TREES
    min_leaf: int = 16
    folds: int = 10
    seed: int = 0

    def fit(self, repeat: int = 0) -> FitOptions:
        """How each repeat is fitted."""
        return FitOptions(
            trees=self.trees, min_leaf=self.min_leaf, folds=self.folds, seed=self.seed + repeat
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """Headline values and details of the report."""

    headline: dict[str, Number]
    details: dict[str, Any]


def measure_gate(
    options: GateOptions, *, progress: Callable[[int], None] = lambda step: None
) -> GateResult:
    """Cross-validate gates on the single-hop questions of the last gate set in the folder.

    Every score is by forests that never saw that question; `repeats` such scores are averaged. Of
    the other sets' questions the words are counted, nothing else. Raises ArtifactInvalid.
    """
    files = gate_files(Path(options.data))
    if not files:
        raise ArtifactInvalid(f"{options.data} has no gate*.jsonl", path=options.data)
    rows = read_rows(files[-1])  # by name: the test part where there is one, else the dev part
    asked = [row for row in rows if row.dataset in SINGLE_HOP] or rows
    others = [row.entry.question for row in rows if row.dataset not in SINGLE_HOP]
    check_entries([row.entry for row in asked])
    bench = _Bench(asked, others if len(asked) < len(rows) else [], options, progress)
    stages = {_name(families): bench.scores(families) for families in bench.stages()}
    question = stages[_name(QUESTION)]
    best = max(stages, key=lambda name: bench.gain(stages[name]))
    return GateResult(
        headline={
            "gate_gain": rounded(bench.gain(stages[best])),
            "gate_gain_question_only": rounded(bench.gain(question)),
            "gate_rate_at_always_accuracy": rounded(bench.curve(stages[best]).rate_at_always),
        },
        details={
            "gate_set": files[-1].name,
            "gate_questions": len(asked),
            "gate_signals_chosen": best,
            "gate_outcomes": bench.outcomes(),
            "gate_stages": [bench.row(name, scores) for name, scores in stages.items()],
            "gate_rules": [bench.row(name, scores) for name, scores in bench.rules().items()],
            "gate_per_set": list(bench.per_set(stages[best])),
            "gate_by_document": bench.by_document(),
            "gate_ablation": list(bench.ablation()),
        },
    )


def steps(options: GateOptions) -> int:
    """About how many forests `measure_gate` grows, for a progress bar."""
    return options.folds * (2 * options.repeats + 2 + len(_KINDS))


class _Bench:
    """The questions, their outcomes, and what is measured on them."""

    def __init__(
        self,
        rows: Sequence[GateRow],
        background: Sequence[str],
        options: GateOptions,
        progress: Callable[[int], None],
    ) -> None:
        self._rows = rows
        self._entries = [row.entry for row in rows]
        self._background = background
        self._options = options
        self._progress = progress
        self._none = np.array([row.none for row in rows], np.float64)
        self._light = np.array([row.light for row in rows], np.float64)

    def stages(self) -> list[frozenset[str]]:
        """Families of signals these rows have, in the gate's own order."""
        table = signal_table(self._entries, WordCounts(texts=0, counts={}), own=False)
        return stage_families(table)

    def scores(self, families: frozenset[str]) -> Array:
        """Held-out scores, the mean of all repeats."""
        every = [
            self._once(self._entries, families, self._options.fit(repeat))
            for repeat in range(self._options.repeats)
        ]
        return np.asarray(np.mean(every, axis=0), np.float64)

    def gain(self, scores: Array) -> float:
        return gain_share(scores, self._none, self._light)

    def curve(self, scores: Array) -> Any:
        return curve(scores, self._none, self._light)

    def outcomes(self) -> Mapping[str, float]:
        """Share of right answers that bound what a gate can do."""
        return {
            "never": rounded(self._none.mean()),
            "always": rounded(self._light.mean()),
            "oracle": rounded(np.maximum(self._none, self._light).mean()),
            "oracle_rate_at_always": rounded(self.curve(self._light - self._none).rate_at_always),
        }

    def row(self, name: str, scores: Array) -> dict[str, Any]:
        """One gate's figures; the spread of the gain is that of resampled questions."""
        found = self.curve(scores)
        rng = np.random.default_rng(self._options.seed)
        gains = bootstrap_gains(scores, self._none, self._light, rng=rng)
        return {
            "gate": name,
            "gain": rounded(self.gain(scores)),
            "gain_sd": rounded(float(gains.std()), 2),
            "at_25": rounded(found.at(0.25)),
            "at_50": rounded(found.at(0.5)),
            "at_75": rounded(found.at(0.75)),
            "rate_at_always": rounded(found.rate_at_always, 3),
            "auroc_wrong": rounded(auroc(scores, self._none == 0), 3),
            "auroc_helps": rounded(auroc(scores, self._light > self._none), 3),
        }

    def rules(self) -> dict[str, Array]:
        """Gates without a model: the paper's published code, and length."""
        questions = [entry.question for entry in self._entries]
        paper = [not (len(text.split()) < 20 or re.search(r"\d", text)) for text in questions]
        return {
            "paper's code (20 words, no digit)": np.array(paper, np.float64),
            "question length": np.array([len(text.split()) for text in questions], np.float64),
        }

    def per_set(self, scores: Array) -> Iterator[dict[str, Any]]:
        """The chosen gate within each set, where naming the set cannot help."""
        for name in dict.fromkeys(row.dataset for row in self._rows):
            inside = np.array([row.dataset == name for row in self._rows])
            none, light = self._none[inside], self._light[inside]
            yield {
                "set": name,
                "never": rounded(none.mean()),
                "always": rounded(light.mean()),
                "gain": rounded(gain_share(scores[inside], none, light)),
            }

    def by_document(self) -> dict[str, float]:
        """Gain of the question's signals when questions about one document share a fold, and not.

        Both once, with the ablation's trees: a difference would say that a gate learns documents.
        """
        grouped = [replace(row.entry, group=row.neighbourhood) for row in self._rows]
        fit = replace(self._options.fit(), trees=min(self._options.trees, ABLATION_TREES))
        return {
            "questions_grouped": sum(bool(row.neighbourhood) for row in self._rows),
            "gain_grouped": rounded(self.gain(self._once(grouped, QUESTION, fit))),
            "gain_not_grouped": rounded(self.gain(self._once(self._entries, QUESTION, fit))),
        }

    def ablation(self) -> Iterator[dict[str, Any]]:
        """Gain of the question's signals without one kind of them, once with fewer trees."""
        fit = replace(self._options.fit(), trees=min(self._options.trees, ABLATION_TREES))
        table = signal_table(self._entries[:1], WordCounts(texts=0, counts={}), own=False)
        for kind, pattern in _KINDS.items():
            left_out = frozenset(name for name in table[0] if re.fullmatch(pattern, name))
            scores = self._once(self._entries, QUESTION, fit, without=left_out)
            yield {
                "without": kind,
                "signals": len(left_out),
                "gain": rounded(self.gain(scores)),
                "rate_at_always": rounded(self.curve(scores).rate_at_always, 3),
            }

    def _once(
        self,
        entries: Sequence[LogEntry],
        families: frozenset[str],
        fit: FitOptions,
        without: frozenset[str] = frozenset(),
    ) -> Array:
        return held_out_scores(
            entries,
            families,
            fit,
            background=self._background,
            without=without,
            progress=self._progress,
        )


def _name(families: frozenset[str]) -> str:
    return " + ".join(name for letter, name in FAMILIES.items() if letter in families)
