"""The demo target asked end to end: real search, gate and context selection, before each answer."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from hola.config import Settings
from hola.engines import load_engine
from hola.engines.tokenizer import load_tokenizer
from hola.models.family import Family
from hola.models.prompt import render_chat
from hola.ports import Engine, Tokenizer
from hola.retrieval.chunking import chunk_document, digest_of
from hola.retrieval.context.select import SelectOptions, select_context
from hola.retrieval.embedder import OnnxEmbedder, open_embedder
from hola.retrieval.gate.draft import check_answer, draft_answer
from hola.retrieval.gate.held import held_signals
from hola.retrieval.gate.model import Gate
from hola.retrieval.gate.place import GATE_FILE
from hola.retrieval.gate.policy import SURE_GAIN, Costs, Depth, Estimate, decide
from hola.retrieval.gate.question import question_signals
from hola.retrieval.retriever import Retriever
from hola.retrieval.sqlite_store import SqliteStore
from hola.retrieval.types import (
    Block,
    ChunkedDocument,
    Document,
    Passage,
    Query,
    SearchMode,
    Vector,
)
from hola.types import ChatMessage
from hola_bench.report import Number, rounded
from hola_bench.retrieval.gate_demo import Fact, says

TENANT, NAME = "bench", "people"
KS = (1, 3, 5)
CANDIDATES = 5
MAX_ANSWER_TOKENS = 32
# What adaptive retrieval may put into the prompt, about two people's facts.
BUDGET_TOKENS = 96
# Facts that are asked, spread over the half that the gate was not fitted on.
ASKED = 240
# Above the usual one: a reader as small as this is misled by facts about others.
MIN_SCORE = 0.03
NEVER, PAPER, ADAPTIVE = "never", "paper's code (20 words, no digit)", "adaptive"
_PAPER_WORDS = 20
_SPEED_TOKENS, _SPEED_RUNS = 96, 5
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer: right or not, passages used, tokens of the prompt, milliseconds in all."""

    right: bool
    passages: int
    prompt_tokens: int
    ms: float


@dataclass(slots=True)
class Asker:
    """The family's engines, its gate, and a store with everybody's facts."""

    family: Family
    tokenizer: Tokenizer
    target: Engine
    drafter: Engine
    gate: Gate
    store: SqliteStore
    retriever: Retriever
    prefill_ms_per_token: float = 0.0
    options: SelectOptions = field(
        default_factory=lambda: SelectOptions(min_score=MIN_SCORE, frame=lambda passage: "")
    )

    async def never(self, fact: Fact) -> Outcome:
        """Without search."""
        return self._answer(fact, [], perf_counter())

    async def always(self, fact: Fact, k: int) -> Outcome:
        """The first k passages, whole."""
        began = perf_counter()
        found = await self._search(fact, k)
        return self._answer(fact, [passage.chunk.text for passage in found], began)

    async def paper(self, fact: Fact) -> Outcome:
        """The rule of the paper's published code: from 20 words on, and without a digit."""
        if len(fact.question.split()) < _PAPER_WORDS or re.search(r"\d", fact.question):
            return await self.never(fact)
        return await self.always(fact, KS[0])

    async def adaptive(self, fact: Fact) -> Outcome:
        """A lexical look, sentences within a budget, and the gate's word on whether they go along.

        The decision is the product's own, at its default worth of an answer. The target's check is
        asked for only where the drafter's answer, held against what the look found, leaves it open.
        """
        began = perf_counter()
        found = await self.store.search(TENANT, NAME, Query(text=fact.question, k=CANDIDATES))
        context = select_context(
            fact.question,
            found,
            count_tokens=self._count,
            budget_tokens=BUDGET_TOKENS,
            options=self.options,
        )
        texts = [kept.text for kept in context.passages]
        costs = Costs(
            prefill_ms_per_token=self.prefill_ms_per_token,
            light_tokens=sum(map(self._count, texts)),
            deep_tokens=0,
        )
        if decide(self.estimates(fact, found), costs).depth is Depth.NONE:
            texts = []
        return self._answer(fact, texts, began)

    def estimates(self, fact: Fact, found: Sequence[Passage]) -> Mapping[Depth, Estimate]:
        """What the gate expects of putting passages into the prompt."""
        prompt = self._prompt(fact.question)
        draft = draft_answer(self.drafter, prompt)
        answer = self.tokenizer.decode(draft.tokens)
        signals = question_signals(fact.question, self.gate.words) | draft.signals
        signals |= held_signals(fact.question, answer, found)
        estimates = self.gate.judge(signals).estimates
        if estimates[Depth.LIGHT].gain > SURE_GAIN:
            return estimates
        signals |= check_answer(self.target, prompt, draft.tokens)
        return self.gate.judge(signals).estimates

    def measure_prefill(self) -> None:
        """Set the target's prefill speed, as a verifier measures its own."""
        tokens = [1 + at % (self.target.info.vocab_size - 1) for at in range(_SPEED_TOKENS)]
        taken = []
        for _ in range(_SPEED_RUNS):
            with closing(self.target.open(_SPEED_TOKENS)) as session:
                began = perf_counter()
                session.prefill(tokens)
                taken.append(perf_counter() - began)
        self.prefill_ms_per_token = float(np.median(taken)) * 1e3 / _SPEED_TOKENS

    async def _search(self, fact: Fact, k: int) -> tuple[Passage, ...]:
        """As `hola search` does: hybrid where there is an embedder."""
        return (await self.retriever.search(TENANT, NAME, fact.question, k=k)).passages

    def _answer(self, fact: Fact, passages: Sequence[str], began: float) -> Outcome:
        lead = "".join(f"Passage: {passage}\n" for passage in passages)
        prompt = self._prompt(lead + fact.question)
        reply = draft_answer(self.target, prompt, max_tokens=MAX_ANSWER_TOKENS)
        ms = (perf_counter() - began) * 1e3
        right = says(self.tokenizer.decode(reply.tokens), fact.answer)
        return Outcome(right, len(passages), len(prompt), ms)

    def _prompt(self, text: str) -> list[int]:
        return chat_tokens(self.family, self.tokenizer, text)

    def _count(self, text: str) -> int:
        return len(self.tokenizer.encode(text))


def measure_asking(
    family: Family,
    facts: Sequence[Fact],
    settings: Settings,
    *,
    progress: Progress = lambda done: None,
) -> tuple[dict[str, Number], dict[str, Any]]:
    """Ask facts of every second person in every way, one way after the other for each fact.

    The gate that comes with the family was fitted on the other people's. Raises what opening the
    embedder or a tier raises; nothing where there is no gate.
    """
    if not (family.path / GATE_FILE).is_file():
        return {}, {"demo_asking": "the family has no gate"}
    return asyncio.run(_measure(family, facts, settings, progress))


def asked_of(facts: Sequence[Fact]) -> list[Fact]:
    """The facts that are asked: at most ASKED, of people the gate was not fitted on."""
    people = {entity: at for at, entity in enumerate(dict.fromkeys(fact.entity for fact in facts))}
    others = [fact for fact in facts if people[fact.entity] % 2]
    return others[:: max(len(others) // ASKED, 1)][:ASKED]


async def _measure(
    family: Family, facts: Sequence[Fact], settings: Settings, progress: Progress
) -> tuple[dict[str, Number], dict[str, Any]]:
    asked = asked_of(facts)
    embedder = open_embedder(settings)
    with tempfile.TemporaryDirectory(prefix="hola-bench-") as folder, ExitStack() as stack:
        store = SqliteStore(Path(folder))
        try:
            await fill(store, facts, embedder)
            asker = Asker(
                family=family,
                tokenizer=load_tokenizer(family.target.path),
                target=stack.enter_context(loaded(family.target.path, settings.threads)),
                drafter=stack.enter_context(loaded(family.ladder[-1].path, settings.threads)),
                gate=Gate.load(family.path / GATE_FILE),
                store=store,
                retriever=Retriever(store, embedder),
            )
            asker.measure_prefill()
            outcomes = await _ask_all(asker, asked, progress)
        finally:
            await store.close()
            if embedder is not None:
                await embedder.close()
    headline, details = _report(outcomes)
    mode = SearchMode.HYBRID if embedder else SearchMode.BM25
    return headline, details | {"demo_search": f"always: {mode}; adaptive: {SearchMode.BM25}"}


def chat_tokens(family: Family, tokenizer: Tokenizer, text: str) -> list[int]:
    """One user turn as the family's prompt."""
    return tokenizer.encode(render_chat(family, [ChatMessage(role="user", content=text)]))


@contextmanager
def loaded(path: Path, threads: int) -> Iterator[Engine]:
    """An engine that is closed at the end; `threads` 0: as many as the engine takes."""
    with closing(load_engine(path, threads=threads or None)) as engine:
        yield engine


async def fill(store: SqliteStore, facts: Sequence[Fact], embedder: OnnxEmbedder | None) -> None:
    """A document for each person, as `hola ingest` would cut it."""
    vectors: dict[str, Vector] = {}
    if embedder is None:
        await store.create(TENANT, NAME)
    else:
        await store.create(TENANT, NAME, embedder=embedder.id, dimensions=embedder.dimensions)
    people = {fact.entity: fact.passage for fact in facts}
    documents = []
    for entity, passage in people.items():
        document = Document(source=entity, title=entity, blocks=(Block(text=passage),))
        chunks = chunk_document(document)
        documents.append(ChunkedDocument(source=entity, digest=digest_of(chunks), chunks=chunks))
        if embedder is not None:
            rows = await embedder.embed([chunk.embedded_text for chunk in chunks])
            vectors |= {chunk.id: row for chunk, row in zip(chunks, rows, strict=True)}
    await store.put(TENANT, NAME, documents, vectors)


async def _ask_all(
    asker: Asker, asked: Sequence[Fact], progress: Progress
) -> dict[str, list[Outcome]]:
    """Each fact in every way before the next, in turn another way first."""
    ways: dict[str, Callable[[Fact], Any]] = {
        NEVER: asker.never,
        **{f"always, k={k}": partial(asker.always, k=k) for k in KS},
        PAPER: asker.paper,
        ADAPTIVE: asker.adaptive,
    }
    outcomes: dict[str, list[Outcome]] = {name: [] for name in ways}
    names = list(ways)
    for number, fact in enumerate(asked):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            outcomes[name].append(await ways[name](fact))
        progress(1)
    return outcomes


def _report(
    outcomes: dict[str, list[Outcome]],
) -> tuple[dict[str, Number], dict[str, Any]]:
    rows = {name: _row(name, found) for name, found in outcomes.items()}
    adaptive, deepest = rows[ADAPTIVE], rows[f"always, k={KS[-1]}"]
    best = max(float(rows[f"always, k={k}"]["accuracy"]) for k in KS)
    return {
        "demo_accuracy_gap": rounded(best - adaptive["accuracy"]),
        "demo_token_share": rounded(adaptive["prompt_tokens"] / deepest["prompt_tokens"]),
        "demo_latency_share": rounded(adaptive["ms_p50"] / deepest["ms_p50"]),
    }, {
        "demo_asked": len(outcomes[ADAPTIVE]),
        "demo_unknown": rounded(1 - rows[NEVER]["accuracy"]),
        "demo_ways": list(rows.values()),
    }


def _row(name: str, found: Sequence[Outcome]) -> dict[str, Any]:
    ms = np.array([outcome.ms for outcome in found])
    return {
        "way": name,
        "accuracy": rounded(float(np.mean([outcome.right for outcome in found]))),
        "retrieved": rounded(float(np.mean([outcome.passages > 0 for outcome in found]))),
        "passages": rounded(float(np.mean([outcome.passages for outcome in found])), 3),
        "prompt_tokens": rounded(float(np.mean([outcome.prompt_tokens for outcome in found]))),
        "ms_p50": rounded(float(np.median(ms))),
        "ms_p95": rounded(float(np.quantile(ms, 0.95))),
    }
