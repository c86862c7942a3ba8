"""How well a gate knows what the demo tiers know: facts with counted exposures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.engines import load_engine
from hola.engines.tokenizer import load_tokenizer
from hola.errors import ArtifactInvalid
from hola.models.family import Family
from hola.models.manifest import Tier
from hola.models.prompt import render_chat
from hola.ports import Engine, Tokenizer
from hola.retrieval.gate.draft import check_answer, draft_answer
from hola.retrieval.gate.fit import FitOptions, held_out_scores
from hola.retrieval.gate.head import OutputHead, load_head
from hola.retrieval.gate.logs import LogEntry
from hola.retrieval.gate.measures import auroc, calibration_error, curve
from hola.types import ChatMessage
from hola_bench.report import Number, rounded

QUESTIONS, EXPOSURES = "heldout/knowledge.jsonl", "exposure.json"
WITHIN = 0.01
# What the knowledge base says of a fact, in a phrasing the tiers were trained to read.
STATEMENTS = {
    "town": "{name} lives in {value}.",
    "trade": "{name} works as a {value}.",
    "colour": "{name} likes the colour {value}.",
    "animal": "{name} keeps a {value}.",
}
_FIT = FitOptions(trees=200, folds=5)
_DRAFT, _BOTH = frozenset("qu"), frozenset("quc")

Bools = npt.NDArray[np.bool_]
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A question about a fact, the passage that answers it, and how often the tiers met it."""

    question: str
    answer: str
    passage: str
    entity: str
    exposures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the tiers made of a fact: the target right without and with the passage, and signals.

    `drafts` has, by draft tier, the signals of its own answer and of the target's check of it.
    """

    fact: Fact
    none: bool
    light: bool
    target: dict[str, float]
    drafts: dict[str, dict[str, float]]

    def entry(self, tiers: Sequence[str]) -> LogEntry:
        """As a gate learns from it, with those tiers' drafts and the target's checks of them."""
        return LogEntry(
            question=self.fact.question,
            none=self.none,
            light=self.light,
            signals={
                f"{name}_{tier}" if len(tiers) > 1 else name: value
                for tier in tiers
                for name, value in self.drafts[tier].items()
            },
            group=self.fact.entity,
        )


def facts_of(family: Family) -> list[Fact]:
    """Every fact of the family's knowledge base, in the order of its held-out questions.

    Raises ArtifactInvalid where the family has none.
    """
    try:
        people = json.loads((family.path / EXPOSURES).read_text("utf-8"))["entities"]
        lines = (family.path / QUESTIONS).read_text("utf-8").splitlines()
        known = {person["entity"]: person["facts"] for person in people}
        return [_fact(json.loads(line), known) for line in lines if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactInvalid(
            f"{family.name} has no knowledge base to ask about: {error!r}", path=family.path
        ) from error


def _fact(row: dict[str, Any], known: dict[str, Any]) -> Fact:
    name, kind = row["meta"]["entity"], row["meta"]["attribute"]
    facts = known[name]
    return Fact(
        question=row["prompt"],
        answer=row["answer"],
        passage=" ".join(
            STATEMENTS[key].format(name=name, value=value) for key, (value, _) in facts.items()
        ),
        entity=name,
        exposures=int(facts[kind][1]),
    )


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A tier ready to be asked."""

    engine: Engine
    head: OutputHead | None


def ask_all(
    family: Family, facts: Sequence[Fact], *, threads: int, progress: Progress = lambda done: None
) -> list[Asked]:
    """Ask every fact of every tier; `progress(1)` after each. Raises what loading a tier raises."""
    tokenizer = load_tokenizer(family.target.path)
    tiers: dict[str, _Loaded] = {}
    try:
        for tier in family.tiers:
            tiers[tier.name] = _load(tier, threads)
        target = tiers.pop(family.target.name)
        try:
            return list(_ask(family, tokenizer, target, tiers, facts, progress))
        finally:
            target.engine.close()
    finally:
        for loaded in tiers.values():
            loaded.engine.close()


def _load(tier: Tier, threads: int) -> _Loaded:
    return _Loaded(load_engine(tier.path, threads=threads or None), load_head(tier.path))


def _ask(
    family: Family,
    tokenizer: Tokenizer,
    target: _Loaded,
    drafts: dict[str, _Loaded],
    facts: Sequence[Fact],
    progress: Progress,
) -> Iterator[Asked]:
    def tokens(text: str) -> list[int]:
        return tokenizer.encode(render_chat(family, [ChatMessage(role="user", content=text)]))

    for fact in facts:
        prompt = tokens(fact.question)
        alone = draft_answer(target.engine, prompt, head=target.head)
        read = draft_answer(target.engine, tokens(f"Passage: {fact.passage}\n{fact.question}"))
        signals = {}
        for name, tier in drafts.items():
            draft = draft_answer(tier.engine, prompt, head=tier.head)
            check = check_answer(target.engine, prompt, draft.tokens, head=target.head)
            signals[name] = draft.signals | check
        yield Asked(
            fact=fact,
            none=says(tokenizer.decode(alone.tokens), fact.answer),
            light=says(tokenizer.decode(read.tokens), fact.answer),
            target=alone.signals,
            drafts=signals,
        )
        progress(1)


def says(reply: str, answer: str) -> bool:
    """Whether the reply's last word is the answer: the tiers end with "The answer is X."."""
    last = reply.split()[-1:] or [""]
    return last[0].strip(".,!").lower() == answer.lower()


def measure_demo(
    asked: Sequence[Asked], fit: FitOptions = _FIT
) -> tuple[dict[str, Number], dict[str, Any]]:
    """Headline values and details. Needs retrieval: never met, or answered wrongly without.

    The headline is of all draft tiers' answers and the target's checks of them, by a gate that was
    fitted on other people's facts.
    """
    exposures = np.array([item.fact.exposures for item in asked])
    none = np.array([item.none for item in asked])
    light = np.array([item.light for item in asked])
    needs = (exposures == 0) | ~none
    rows, best = [], np.zeros(len(asked))
    names = tuple(asked[0].drafts)
    for tiers in (*((name,) for name in names), names):
        entries = [item.entry(tiers) for item in asked]
        for families, name in ((_DRAFT, "drafts"), (_BOTH, "drafts and target's checks")):
            best = held_out_scores(entries, families, fit)
            rows.append(_row(f"{' + '.join(tiers)}: {name}", best, needs, exposures))
    decided = _decided(best, none, light)
    return {"demo_gate_auroc": rounded(auroc(best, needs))}, {
        "demo_facts": len(asked),
        "demo_needs_share": rounded(float(needs.mean())),
        "demo_bound": rounded(_bound(needs, exposures)),
        "demo_gates": rows,
        "demo_decisions": decided,
        "demo_signals": _per_signal(asked, needs, exposures),
    }


def _row(name: str, scores: Any, needs: Bools, exposures: Any) -> dict[str, Any]:
    return {
        "gate": name,
        "auroc": rounded(auroc(scores, needs)),
        "auroc_never_met_or_100_times": rounded(_extremes(scores, exposures)),
        "calibration_error": rounded(calibration_error(scores, needs.astype(np.float64)), 2),
    }


def _extremes(scores: Any, exposures: Any) -> float:
    """AUROC among facts met never or most often."""
    most = exposures.max()
    ends = (exposures == 0) | (exposures == most)
    return auroc(scores[ends], exposures[ends] == 0)


def _bound(needs: Bools, exposures: Any) -> float:
    """AUROC of a gate that knew exactly how often each fact was met, and nothing else."""
    shares = {count: needs[exposures == count].mean() for count in np.unique(exposures)}
    return auroc(np.array([shares[count] for count in exposures]), needs)


def _decided(scores: Any, none: Bools, light: Bools) -> dict[str, float]:
    """How much retrieval keeps what always retrieving gets, the right passage given."""
    found = curve(scores, none.astype(np.float64), light.astype(np.float64))
    enough = found.accuracy >= found.always - WITHIN
    return {
        "never": rounded(found.never),
        "always": rounded(found.always),
        "rate_within_1_point": rounded(float(found.rates[enough.argmax()])),
        "unknown": rounded(float(1 - none.mean())),
        "at_unknown_and_5_points": rounded(found.at(float(1 - none.mean()) + 0.05)),
    }


def _per_signal(asked: Sequence[Asked], needs: Bools, exposures: Any) -> list[dict[str, Any]]:
    """Each signal alone, of each tier, as it is: 1 - AUROC for those that fall with doubt."""
    sources = {
        "target alone": [item.target for item in asked],
        **{tier: [item.drafts[tier] for item in asked] for tier in asked[0].drafts},
    }
    rows = []
    for source, table in sources.items():
        for name in sorted(table[0]):
            values = np.array([row.get(name, 0.0) for row in table])
            sign = -1 if "margin" in name or "agrees" in name else 1
            rows.append(
                {
                    "tier": source,
                    "signal": name,
                    "auroc": rounded(auroc(sign * values, needs), 3),
                    "auroc_never_met_or_100_times": rounded(_extremes(sign * values, exposures), 3),
                }
            )
    return rows
