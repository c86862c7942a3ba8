"""Plans retrieval for one request: looks, judges, decides, searches, selects, writes the prompt."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hola.errors import InvalidRequest, StoreCorrupt, StoreUnavailable
from hola.models.passages import PromptPassage
from hola.retrieval.gate.policy import Costs
from hola.retrieval.gate.search_shape import search_signals
from hola.types import (
    ChatMessage,
    Citation,
    GenerateRequest,
    Plan,
    RetrievalMode,
    RetrievalPlan,
    StoreOutage,
)
from hola_router.catalogue import Catalogue
from hola_router.judge import Judge, Verdict
from hola_router.knowledge import Knowledge
from hola_router.policy import (
    Budget,
    RetrievalDecision,
    RetrievalFacts,
    Room,
    budget_of,
    plan_retrieval,
)
from hola_router.reader import Reader
from hola_router.search import Hits, Searcher
from hola_router.selection import Selected, select

# What a drafter's lookup gets to copy from.
MOST_LOOKUP_TEXTS = 16
MOST_LOOKUP_CHARS = 65_536
# Searching deeper takes two more searches, and keeps about twice as much.
_DEEP_SEARCHES = 3
_DEEP_SHARE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A request's prompt with its passages, why they are there, and what lookup may copy from."""

    prompt: str
    plan: Plan
    lookup_texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A request that retrieves: everything about it that does not change on the way."""

    request: GenerateRequest
    reader: Reader
    tenant: str
    prompt: str
    prompt_tokens: int

    @property
    def question(self) -> str:
        return self.request.messages[-1].content

    @property
    def collections(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.request.retrieval.collections))

    @property
    def mode(self) -> RetrievalMode:
        return self.request.retrieval.effective_mode


class Planner:
    """Plans for all families of a catalogue. Use from one event loop."""

    def __init__(
        self,
        catalogue: Catalogue,
        knowledge: Knowledge,
        judge: Judge,
        *,
        answer_worth_ms: float,
        latency_target_ms: float,
    ) -> None:
        """Nothing given is closed here."""
        self._catalogue = catalogue
        self._knowledge = knowledge
        self._judge = judge
        self._answer_worth_ms = answer_worth_ms
        self._latency_target_ms = latency_target_ms
        self._readers: dict[str, Reader] = {}

    async def plan(
        self, request: GenerateRequest, *, model: str, prompt: str, tenant: str
    ) -> Planned:
        """Plan a checked request whose prompt without passages is `prompt`.

        Raises InvalidRequest (a raw prompt, a last message that asks nothing, an impossible name),
        UnknownCollection, StoreUnavailable and StoreCorrupt unless the request goes on without,
        ArtifactInvalid (a broken passage template or gate), MissingExtra (no tokenizer here).
        """
        if request.retrieval.effective_mode is RetrievalMode.OFF:
            decision = plan_retrieval(RetrievalFacts(mode=RetrievalMode.OFF))
            return Planned(prompt=prompt, plan=Plan(reasons=decision.reasons))
        check_question(request.messages)
        reader = await self._reader(model)
        asked = _Asked(
            request=request,
            reader=reader,
            tenant=tenant,
            prompt=prompt,
            prompt_tokens=await asyncio.to_thread(reader.count, prompt),
        )
        try:
            return await self._retrieved(asked, await self._knowledge.searcher())
        except (StoreUnavailable, StoreCorrupt) as down:
            if request.retrieval.store_outage is StoreOutage.FAIL:
                raise
            reasons = ("the document store is down, and the request goes on without it",)
            plan = Plan(mode=asked.mode, reasons=reasons, notes=(down.message,))
            return Planned(prompt=prompt, plan=plan)

    async def _retrieved(self, asked: _Asked, searcher: Searcher) -> Planned:
        look, verdict = await self._look(asked, searcher)
        budget = budget_of(self._room(asked, verdict.prefill_ms_per_token))
        first = await asyncio.to_thread(
            select, asked.reader, asked.question, look.hits, budget.tokens
        )
        decision = self._decide(asked, searcher, look, verdict, first, budget)
        plan = Plan(
            depth=decision.depth,
            mode=asked.mode,
            reasons=(*decision.reasons, budget.reason),
            notes=verdict.notes,
            signals=verdict.signals,
            judged_by=verdict.judgement.families if verdict.judgement else (),
            weights=decision.weights,
            token_budget=budget.tokens,
            prefill_ms_per_token=verdict.prefill_ms_per_token,
            search_ms=look.ms,
            gate_ms=verdict.ms,
        )
        if decision.depth is RetrievalPlan.NONE:
            return Planned(prompt=asked.prompt, plan=replace(plan, cuts=_all_cut(first)))
        hits = look
        if decision.depth is RetrievalPlan.DEEP:
            hits = await searcher.deep(asked.tenant, asked.collections, asked.question)
        elif searcher.has_embedder or asked.mode is not RetrievalMode.AUTO:
            hits = await searcher.light(asked.tenant, asked.collections, asked.question)
        plan = replace(plan, notes=(*plan.notes, *hits.notes))
        if hits is not look:
            plan = replace(plan, search_ms=look.ms + hits.ms)
        return await asyncio.to_thread(_written, asked, plan, hits)

    async def _look(self, asked: _Asked, searcher: Searcher) -> tuple[Hits, Verdict]:
        """For AUTO a first search and the gate's judgement; else how fast the target reads."""
        if asked.mode is not RetrievalMode.AUTO:
            speed = await self._judge.prefill_ms_per_token()
            return Hits(), Verdict(prefill_ms_per_token=speed)
        look = await searcher.look(asked.tenant, asked.collections, asked.question)
        if not look.hits and not searcher.has_embedder:
            speed = await self._judge.prefill_ms_per_token()
            seen = search_signals(asked.question, ())
            return look, Verdict(signals=seen, prefill_ms_per_token=speed)
        verdict = await self._judge.judge(
            asked.reader, asked.question, asked.prompt, look.passages, tenant=asked.tenant
        )
        return look, verdict

    def _room(self, asked: _Asked, prefill_ms_per_token: float) -> Room:
        params = asked.request.retrieval
        return Room(
            context_length=asked.reader.family.context_length,
            prompt_tokens=asked.prompt_tokens,
            max_tokens=asked.request.sampling.max_tokens,
            latency_target_ms=params.latency_target_ms or self._latency_target_ms,
            max_passage_tokens=params.max_passage_tokens,
            prefill_ms_per_token=prefill_ms_per_token,
        )

    def _decide(
        self,
        asked: _Asked,
        searcher: Searcher,
        look: Hits,
        verdict: Verdict,
        first: Selected,
        budget: Budget,
    ) -> RetrievalDecision:
        if budget.tokens == 0:
            return RetrievalDecision(
                depth=RetrievalPlan.NONE, reasons=("there is no room for any passage",)
            )
        judgement = verdict.judgement
        costs = Costs(
            prefill_ms_per_token=verdict.prefill_ms_per_token,
            light_tokens=first.tokens,
            deep_tokens=min(budget.tokens, _DEEP_SHARE * first.tokens),
            light_search_ms=look.ms if searcher.has_embedder else 0.0,
            deep_search_ms=look.ms * _DEEP_SEARCHES,
        )
        facts = RetrievalFacts(
            mode=asked.mode,
            hits=len(look.hits),
            coverage=verdict.signals.get("s_coverage", math.nan) if look.hits else math.nan,
            may_miss=searcher.has_embedder,
            estimates=judgement.estimates if judgement else None,
            costs=costs,
            answer_worth_ms=self._answer_worth_ms,
        )
        return plan_retrieval(facts)

    async def _reader(self, model: str) -> Reader:
        """The family's reader, made anew when the family on disk is another one."""
        family = await asyncio.to_thread(self._catalogue.family, model)
        reader = self._readers.get(model)
        if reader is None or reader.family != family:
            reader = self._readers[model] = await asyncio.to_thread(Reader, family)
        return reader


def check_question(messages: Sequence[ChatMessage]) -> None:
    """Raises InvalidRequest unless the last message can be retrieved for."""
    if not messages:
        raise InvalidRequest(
            "retrieval needs messages: a raw prompt is used as it is", field="retrieval"
        )
    if messages[-1].role != "user" or not messages[-1].content.strip():
        raise InvalidRequest(
            "retrieval needs a last message with the user's question", field="messages"
        )


def _written(asked: _Asked, plan: Plan, hits: Hits) -> Planned:
    """Select and write the prompt; what the template adds counts, so the last ones may have to go.

    Blocks for milliseconds.
    """
    reader, messages = asked.reader, asked.request.messages
    selected = select(reader, asked.question, hits.hits, plan.token_budget)
    while True:
        passages = [
            PromptPassage(
                number=kept.number, text=kept.text, title=reader.harmless(kept.title) or ""
            )
            for kept in selected.kept
        ]
        prompt = reader.prompt(messages, passages) if passages else asked.prompt
        tokens = reader.count(prompt) - asked.prompt_tokens if passages else 0
        if tokens <= plan.token_budget or not passages:
            break
        selected = selected.without_last("no room was left for it")
    notes = plan.notes if selected.kept else (*plan.notes, "no passage was found that fits")
    plan = replace(
        plan,
        citations=selected.kept,
        cuts=selected.cuts,
        passage_tokens=tokens,
        notes=notes,
    )
    return Planned(prompt=prompt, plan=plan, lookup_texts=_lookup_texts(selected, hits))


def _all_cut(first: Selected) -> tuple[Citation, ...]:
    """What a first search would have given, as cut."""
    while first.kept:
        first = first.without_last("nothing is retrieved")
    return first.cuts


def _lookup_texts(selected: Selected, hits: Hits) -> tuple[str, ...]:
    """The found texts in full, those in the prompt first, within bounds."""
    kept = {citation.chunk_id for citation in selected.kept}
    order = sorted(hits.passages, key=lambda passage: passage.chunk.id not in kept)
    texts: list[str] = []
    room = MOST_LOOKUP_CHARS
    for passage in order[:MOST_LOOKUP_TEXTS]:
        if len(passage.chunk.text) > room:
            break
        texts.append(passage.chunk.text)
        room -= len(passage.chunk.text)
    return tuple(texts)
