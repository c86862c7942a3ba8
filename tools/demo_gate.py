"""Fits the gate that comes with the demo tiers: what they know or not, and other questions."""

from __future__ import annotations

import argparse
import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from hola.engines.tokenizer import load_tokenizer
from hola.models.family import Family, load_family
from hola.ports import Engine
from hola.retrieval.gate.draft import check_answer, draft_answer
from hola.retrieval.gate.fit import FitOptions, fit_gate
from hola.retrieval.gate.held import held_signals
from hola.retrieval.gate.logs import LogEntry
from hola.retrieval.gate.place import GATE_FILE
from hola.retrieval.sqlite_store import SqliteStore
from hola.retrieval.types import Query
from hola_bench.retrieval.demo_ask import (
    CANDIDATES,
    MAX_ANSWER_TOKENS,
    NAME,
    TENANT,
    chat_tokens,
    fill,
    halves,
    loaded,
)
from hola_bench.retrieval.gate_demo import Fact, facts_of, says

# Nothing in a knowledge base helps these: sums, and questions that bring their passage along.
OTHERS = ("word_problems", "word_problems_templates", "reading", "reading_templates")
SMALL = FitOptions(trees=60, min_leaf=8, folds=5)


class Logger:
    """Asks as the router does before it decides: a look, a draft, the target's check of it.

    Gradients are left out, so that the gate needs no output layer where it runs.
    """

    def __init__(self, family: Family, store: SqliteStore, target: Engine, drafter: Engine) -> None:
        self._family = family
        self._store = store
        self._target = target
        self._drafter = drafter
        self._tokenizer = load_tokenizer(family.target.path)

    async def fact(self, fact: Fact) -> LogEntry:
        """A fact, with what the right passage changed in the target's answer."""
        return LogEntry(
            question=fact.question,
            none=self._right(fact.question, fact),
            light=self._right(f"Passage: {fact.passage}\n{fact.question}", fact),
            signals=await self._signals(fact.question),
            group=fact.entity,
        )

    async def other(self, question: str) -> LogEntry:
        """A question of another kind: retrieval is taken to change nothing."""
        return LogEntry(question=question, none=1, light=1, signals=await self._signals(question))

    async def _signals(self, question: str) -> dict[str, float]:
        found = await self._store.search(TENANT, NAME, Query(text=question, k=CANDIDATES))
        prompt = chat_tokens(self._family, self._tokenizer, question)
        draft = draft_answer(self._drafter, prompt)
        check = check_answer(self._target, prompt, draft.tokens)
        held = held_signals(question, self._tokenizer.decode(draft.tokens), found)
        return draft.signals | check | held

    def _right(self, text: str, fact: Fact) -> float:
        prompt = chat_tokens(self._family, self._tokenizer, text)
        reply = draft_answer(self._target, prompt, max_tokens=MAX_ANSWER_TOKENS)
        return float(says(self._tokenizer.decode(reply.tokens), fact.answer))


async def logs(family: Family, every: int) -> list[LogEntry]:
    """Facts of every second person, and every n-th question of the other kinds."""
    facts = facts_of(family)
    fitted, _ = halves(facts)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        store = SqliteStore(Path(folder))
        await fill(store, facts, None)
        logger = Logger(
            family,
            store,
            stack.enter_context(loaded(family.target.path, 1)),
            stack.enter_context(loaded(family.ladder[-1].path, 1)),
        )
        entries = [await logger.fact(fact) for fact in fitted]
        for name in OTHERS:
            lines = (family.path / "heldout" / f"{name}.jsonl").read_text("utf-8").splitlines()
            entries += [await logger.other(json.loads(line)["prompt"]) for line in lines[::every]]
        await store.close()
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models/demo"))
    parser.add_argument("--every", type=int, default=4, help="take every n-th other question")
    options = parser.parse_args()
    gate = fit_gate(asyncio.run(logs(load_family(options.models), options.every)), SMALL)
    gate.save(options.models / GATE_FILE)
    for stage in gate.stages:
        print(sorted(stage.families), round(stage.gain_share, 3))


if __name__ == "__main__":
    main()
