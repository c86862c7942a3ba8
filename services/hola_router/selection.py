"""From what a search found to what stands in the prompt: passages within a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hola.plan import MAX_CUTS
from hola.retrieval.types import Passage
from hola.types import Citation
from hola_router.reader import Reader
from hola_router.search import Hit

# A passage that scores less than this share of the best one is about something else.
_WORTH_SHARE = 0.5


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


def select(reader: Reader, hits: Sequence[Hit], budget_tokens: int) -> Selected:
    """The best passages that fit. Blocks for milliseconds."""
    kept: list[Citation] = []
    cuts: list[Citation] = []
    left = budget_tokens
    best = max((hit.passage.score for hit in hits), default=0.0)
    for hit in hits:
        text = reader.harmless(hit.passage.chunk.text)
        tokens = 0 if text is None else reader.count(text)
        why = ""
        if text is None:
            why = "it spells control tokens of the model"
        elif hit.passage.score < best * _WORTH_SHARE:
            why = "it fits the question far less than the best one"
        elif tokens > left:
            why = f"its {tokens} tokens do not fit the budget"
        if why:
            cuts.append(replace(cited(hit), cut=why))
            continue
        left -= tokens
        whole = ((0, len(hit.passage.chunk.text)),)
        kept.append(
            replace(cited(hit), number=len(kept) + 1, ranges=whole, text=text or "", tokens=tokens)
        )
    return Selected(kept=tuple(kept), cuts=tuple(cuts[:MAX_CUTS]))


def cited(hit: Hit) -> Citation:
    """Where a passage is from, and its scores."""
    passage: Passage = hit.passage
    return Citation(
        number=0,
        collection=hit.collection,
        source=passage.source,
        title=passage.chunk.title,
        heading=passage.chunk.heading,
        page=passage.chunk.page,
        chunk_id=passage.chunk.id,
        score=passage.score,
        bm25=passage.bm25,
        dense=passage.dense,
    )
