"""Fits the gate that comes with the demo tiers: what they know or not, and other questions."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from hola.engines import load_engine
from hola.engines.tokenizer import load_tokenizer
from hola.models.family import Family, load_family
from hola.models.prompt import render_chat
from hola.retrieval.gate.draft import check_answer, draft_answer
from hola.retrieval.gate.fit import FitOptions, fit_gate
from hola.retrieval.gate.logs import LogEntry
from hola.retrieval.gate.place import GATE_FILE
from hola.types import ChatMessage
from hola_bench.retrieval.gate_demo import ask_all, facts_of

# Nothing in a knowledge base helps these: sums, and questions that bring their passage along.
OTHERS = ("word_problems", "word_problems_templates", "reading", "reading_templates")
SMALL = FitOptions(trees=60, min_leaf=24, folds=5)


def fact_logs(family: Family, every: int, tier: str) -> list[LogEntry]:
    """Facts, with what the right passage changed in the target's answer.

    Gradients are left out, so that the gate needs no output layer where it runs.
    """
    asked = ask_all(family, facts_of(family)[::every], threads=1)
    return [_without_gradients(item.entry((tier,))) for item in asked]


def _without_gradients(entry: LogEntry) -> LogEntry:
    kept = {name: value for name, value in entry.signals.items() if "gradient" not in name}
    return replace(entry, signals=kept)


def other_logs(family: Family, every: int, tier: str) -> list[LogEntry]:
    """Questions of the other kinds: retrieval is taken to change nothing."""
    tokenizer = load_tokenizer(family.target.path)
    drafter = load_engine(family.tier(tier).path, threads=1)
    target = load_engine(family.target.path, threads=1)
    entries = []
    try:
        for name in OTHERS:
            lines = (family.path / "heldout" / f"{name}.jsonl").read_text("utf-8").splitlines()
            for line in lines[::every]:
                question = json.loads(line)["prompt"]
                message = ChatMessage(role="user", content=question)
                prompt = tokenizer.encode(render_chat(family, [message]))
                draft = draft_answer(drafter, prompt)
                signals = draft.signals | check_answer(target, prompt, draft.tokens)
                entries.append(LogEntry(question=question, none=1, light=1, signals=signals))
    finally:
        drafter.close()
        target.close()
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models/demo"))
    parser.add_argument("--every", type=int, default=2, help="take every n-th question")
    options = parser.parse_args()
    family = load_family(options.models)
    tier = family.ladder[-1].name
    facts = fact_logs(family, options.every, tier)
    others = other_logs(family, options.every, tier)
    gate = fit_gate([*facts, *others], SMALL)
    gate.save(options.models / GATE_FILE)
    for stage in gate.stages:
        print(sorted(stage.families), round(stage.gain_share, 3))


if __name__ == "__main__":
    main()
