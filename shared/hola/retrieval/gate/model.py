"""A fitted gate: for each set of signals a forest and what its scores came to mean; a JSON file."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.errors import ArtifactInvalid, InvalidRequest
from hola.retrieval.gate.forest import Forest
from hola.retrieval.gate.isotonic import Isotonic
from hola.retrieval.gate.policy import Depth, Estimate
from hola.retrieval.gate.question import Signals, answer_signals, question_signals
from hola.retrieval.gate.words import WordCounts

Array = npt.NDArray[np.float64]
FORMAT = 1
MAX_FILE_BYTES = 64 * 2**20
# Families of signals by the first letter of their names, cheapest first; all others are a draft's.
FAMILIES = {
    "q": "question",
    "s": "search",
    "u": "uncertainty",
    "c": "target's check",
    "a": "answer text",
    "h": "answer in passages",
}
_FAMILY_NAME = re.compile(r"([qsucah])_")


def family(signal: str) -> str:
    """The family a signal belongs to: q, s, u, c, a, h, or u for everything else."""
    match = _FAMILY_NAME.match(signal)
    return match.group(1) if match else "u"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Gain of one depth: a forest's score, and what scores meant for questions not fitted on."""

    forest: Forest
    gain: Isotonic
    helps: Isotonic

    def estimate(self, row: Array) -> Estimate:
        """Expected gain and probability of help; row (signals,)."""
        score = self.forest.predict(row[None, :])
        return Estimate(gain=float(self.gain(score)[0]), helps=float(self.helps(score)[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What can be said from some signals. `fill` is the usual value of each, for one that is
    missing; `gain_share` how well LIGHT's scores ordered questions that were not fitted on.
    """

    signals: tuple[str, ...]
    fill: tuple[float, ...]
    heads: Mapping[Depth, Head]
    gain_share: float

    @property
    def families(self) -> frozenset[str]:
        """Families its signals are of."""
        return frozenset(map(family, self.signals))

    def row(self, signals: Signals) -> Array:
        """Its signals in order, shape (signals,); missing and non-finite ones are filled."""
        found = [signals.get(name, math.nan) for name in self.signals]
        row = np.array(found, np.float64)
        return np.where(np.isfinite(row), row, self.fill)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Estimates by depth, and the families of signals they come from, cheapest first."""

    estimates: Mapping[Depth, Estimate]
    families: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Judges questions. `about` says in JSON's types what it was fitted on."""

    words: WordCounts
    stages: tuple[Stage, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    def signals(self, question: str, *, answer: str | None = None) -> dict[str, float]:
        """Signals of the text alone; those of a search or a draft are the caller's to add."""
        signals = question_signals(question, self.words)
        if answer is not None:
            signals |= answer_signals(question, answer, self.words)
        return signals

    def needs(self) -> frozenset[str]:
        """Families of signals that any stage can use: what is worth measuring for this gate."""
        return frozenset().union(*(stage.families for stage in self.stages))

    def judge(self, signals: Signals) -> Judgement:
        """Estimates by the best stage whose families of signals are there.

        Best is which ordered questions best when the gate was checked, so a dearer stage is used
        only where it is better. Raises InvalidRequest where there are too few signals for any.
        """
        present = frozenset(family(name) for name in signals)
        usable = [stage for stage in self.stages if stage.families <= present]
        if not usable:
            raise InvalidRequest("the gate needs the question's own signals", field="signals")
        stage = max(usable, key=lambda usable_stage: usable_stage.gain_share)
        row = stage.row(signals)
        return Judgement(
            estimates={depth: head.estimate(row) for depth, head in stage.heads.items()},
            families=tuple(name for letter, name in FAMILIES.items() if letter in stage.families),
        )

    def save(self, path: Path) -> None:
        """Write the gate as JSON, in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(self.as_json(), separators=(",", ":")) + "\n", "utf-8")
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> Gate:
        """Read what `save` wrote. Raises ArtifactInvalid naming what is wrong."""
        try:
            size = path.stat().st_size
            if size > MAX_FILE_BYTES:
                raise ArtifactInvalid(f"{path} has {size} bytes, at most {MAX_FILE_BYTES}")
            stored = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactInvalid(f"{path} is not a gate: {error}", path=path) from error
        try:
            return cls.from_json(stored)
        except ArtifactInvalid as error:
            raise ArtifactInvalid(f"{path} is not a gate: {error.message}", path=path) from error

    def as_json(self) -> dict[str, Any]:
        """Everything, in JSON's types."""
        return {
            "format": FORMAT,
            "about": dict(self.about),
            "words": {"texts": self.words.texts, "counts": dict(self.words.counts)},
            "stages": [_stage_as_json(stage) for stage in self.stages],
        }

    @classmethod
    def from_json(cls, stored: Any) -> Gate:
        """What `as_json` made. Raises ArtifactInvalid naming what is wrong."""
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            raise ArtifactInvalid(f"not an object of format {FORMAT}")
        try:
            return cls(
                words=_words(stored["words"]),
                stages=tuple(_stage(stage) for stage in stored["stages"]),
                about=dict(stored["about"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactInvalid(f"malformed: {error!r}") from error


def _stage_as_json(stage: Stage) -> dict[str, Any]:
    return {
        "signals": list(stage.signals),
        "fill": list(stage.fill),
        "gain_share": stage.gain_share,
        "heads": {
            str(depth): {
                "forest": head.forest.as_json(),
                "gain": head.gain.as_json(),
                "helps": head.helps.as_json(),
            }
            for depth, head in stage.heads.items()
        },
    }


def _stage(stored: Any) -> Stage:
    signals, fill = _texts(stored["signals"]), _finite(stored["fill"])
    if not signals or len(signals) != len(fill):
        raise ArtifactInvalid(f"{len(signals)} signals, {len(fill)} values to fill them")
    heads = {
        Depth(depth): Head(
            forest=Forest.from_json(head["forest"], len(signals)),
            gain=Isotonic.from_json(head["gain"]),
            helps=Isotonic.from_json(head["helps"]),
        )
        for depth, head in stored["heads"].items()
    }
    if Depth.LIGHT not in heads or Depth.NONE in heads:
        raise ArtifactInvalid("a stage must judge light, may judge deep, and nothing else")
    (share,) = _finite([stored["gain_share"]])
    return Stage(signals=signals, fill=fill, heads=heads, gain_share=share)


def _words(stored: Any) -> WordCounts:
    texts, counts = stored["texts"], stored["counts"]
    numbers: Sequence[Any] = [texts, *counts.values()]
    if not all(type(number) is int and 0 <= number <= texts for number in numbers):
        raise ArtifactInvalid("word counts must be whole numbers, none above the texts'")
    return WordCounts(texts=texts, counts=counts)


def _texts(stored: Iterable[Any]) -> tuple[str, ...]:
    texts = tuple(stored)
    if not all(isinstance(text, str) for text in texts):
        raise ArtifactInvalid("names of signals must be text")
    return texts


def _finite(stored: Iterable[Any]) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in stored)
    if not all(map(math.isfinite, numbers)):
        raise ArtifactInvalid("numbers must be finite")
    return numbers
