"""From what a search found to what stands in the prompt: sentences within a budget of tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hola.models.passages import PromptPassage
from hola.plan import MAX_CUTS
from hola.retrieval.context.select import SelectOptions, select_context
from hola.retrieval.context.types import Context, CutReason, KeptPassage
from hola.retrieval.types import Passage
from hola.types import Citation
from hola_router.reader import Reader
from hola_router.search import Hit

# Of the best BM25 score: below it there are only words that stand in most passages.
_COMMON_SHARE = 0.02
_WHY = {
    CutReason.LOW_SCORE: "fit the question too little",
    CutReason.REDUNDANT: "say what another one says",
    CutReason.OVER_BUDGET: "do not fit the budget",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """Citations of what is kept, numbered in the prompt's order, and of what was cut."""

    kept: tuple[Citation, ...] = ()
    cuts: tuple[Citation, ...] = ()

    @property
    def tokens(self) -> int:
        """What the kept ones take, as counted one by one."""
        return sum(citation.tokens for citation in self.kept)

    def without_last(self, why: str) -> Selected:
        """The same with the last kept passage cut."""
        *kept, last = self.kept
        gone = replace(last, number=0, ranges=(), text="", tokens=0, cut=why)
        return Selected(kept=tuple(kept), cuts=(gone, *self.cuts)[:MAX_CUTS])


def select(reader: Reader, question: str, hits: Sequence[Hit], budget_tokens: int) -> Selected:
    """The sentences most likely to answer, within the budget. Blocks for milliseconds."""
    sound: list[Hit] = []
    unfit: list[Citation] = []
    best: dict[str, float] = {}  # BM25 of two collections cannot be compared
    for hit in hits:
        best[hit.collection] = max(best.get(hit.collection, 0.0), hit.passage.bm25 or 0.0)
    for hit in hits:
        if reader.harmless(hit.passage.chunk.text) is None:
            unfit.append(replace(cited(hit), cut="it spells control tokens of the model"))
        elif _says_nothing(hit.passage, best[hit.collection]):
            unfit.append(replace(cited(hit), cut="it shares only words that stand everywhere"))
        else:
            sound.append(hit)

    def frame(passage: Passage) -> str:
        title = reader.harmless(passage.chunk.title) or ""
        return reader.frame(PromptPassage(number=1, title=title, text=""))

    context = select_context(
        question,
        [hit.passage for hit in sound],
        count_tokens=reader.count,
        budget_tokens=budget_tokens,
        options=SelectOptions(frame=frame),
    )
    kept = tuple(
        replace(
            _kept(reader, sound[passage.rank], passage),
            number=number,
            cut=_left_out(context, passage.rank),
        )
        for number, passage in enumerate(context.passages, 1)
    )
    ranks = {passage.rank for passage in context.passages}
    cuts = [
        replace(cited(hit), cut=f"its sentences {_main_reason(context, rank)}")
        for rank, hit in enumerate(sound)
        if rank not in ranks
    ]
    return Selected(kept=kept, cuts=tuple([*cuts, *unfit][:MAX_CUTS]))


def _says_nothing(passage: Passage, best_bm25: float) -> bool:
    """Whether only words that nearly every passage has led to it: BM25 gives these next to nothing.

    A sentence with such a word looks fit by itself, and crowds of them mislead a small model.
    """
    by_words_alone = passage.dense is None and passage.bm25 is not None
    return by_words_alone and (passage.bm25 or 0.0) < _COMMON_SHARE * best_bm25


def cited(hit: Hit) -> Citation:
    """Where a passage is from, and its scores."""
    passage, chunk = hit.passage, hit.passage.chunk
    return Citation(
        number=0,
        collection=hit.collection,
        source=passage.source,
        title=chunk.title,
        heading=chunk.heading,
        page=chunk.page,
        chunk_id=chunk.id,
        score=passage.score,
        bm25=passage.bm25,
        dense=passage.dense,
    )


def _kept(reader: Reader, hit: Hit, passage: KeptPassage) -> Citation:
    return replace(
        cited(hit),
        ranges=tuple((run.start, run.end) for run in passage.runs),
        # Of a harmless text every part is harmless.
        text=reader.harmless(passage.text) or "",
        tokens=passage.tokens,
    )


def _left_out(context: Context, rank: int) -> str:
    """What of a kept passage is not in the prompt, in words."""
    count = sum(cut.rank == rank for cut in context.cut)
    if not count:
        return ""
    noun = "sentence" if count == 1 else "sentences"
    return f"{count} {noun} left out: {_main_reason(context, rank)}"


def _main_reason(context: Context, rank: int) -> str:
    reasons = Counter(cut.reason for cut in context.cut if cut.rank == rank)
    return _WHY[reasons.most_common(1)[0][0]] if reasons else "have no words"
