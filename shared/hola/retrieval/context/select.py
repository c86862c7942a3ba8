"""From ranked passages to what the prompt gets of them: sentences, within a budget; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hola.errors import InvalidRequest
from hola.retrieval.context.lexical import folded_words, stemmed, stems
from hola.retrieval.context.scorer import Scorer, default_scorer
from hola.retrieval.context.sentences import Span, split_sentences
from hola.retrieval.context.signals import Sentence, sentence_signals
from hola.retrieval.context.types import Context, CutReason, CutSentence, KeptPassage, joined
from hola.retrieval.types import Passage

CountTokens = Callable[[str], int]
Array = npt.NDArray[np.float64]
DEFAULT_MIN_SCORE = 0.01
DEFAULT_MAX_PASSAGES = 16
# A sentence of which so many words stand in one that is kept says nothing new.
_SAME_SHARE = 0.85
_FEWEST_WORDS = 4


def titled(passage: Passage) -> str:
    """The usual frame: title and headings, which say what a sentence without its subject is on."""
    chunk = passage.chunk
    return "".join(f"{part}\n" for part in (chunk.title, chunk.heading) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectOptions:
    """How to select: see select_context. `max_passages` bounds k, which is otherwise adaptive."""

    min_score: float = DEFAULT_MIN_SCORE
    max_passages: int = DEFAULT_MAX_PASSAGES
    frame: Callable[[Passage], str] = titled
    scorer: Scorer | None = None


def sentences_of(passages: Sequence[Passage]) -> tuple[Sentence, ...]:
    """All sentences in order of passage and text; those of white space alone left out."""
    found = []
    for rank, passage in enumerate(passages):
        for number, span in enumerate(split_sentences(passage.chunk.text)):
            text = span.of(passage.chunk.text)
            if text.strip():
                found.append(
                    Sentence(
                        rank=rank, number=number, span=span, text=text, words=folded_words(text)
                    )
                )
    return tuple(found)


def select_context(
    question: str,
    passages: Sequence[Passage],
    *,
    count_tokens: CountTokens,
    budget_tokens: int,
    cosines: Sequence[float] | None = None,
    options: SelectOptions | None = None,
) -> Context:
    """Keep the sentences most likely to support an answer, in order of passage and text.

    `passages` come best first. `budget_tokens` bounds what the kept ones take as `count_tokens`
    counts each one's frame and text (`options.frame(passage)`: what the template puts around it).
    Sentences of a probability below `options.min_score` are left out, so how many passages and
    sentences are kept follows from the question; the best one is kept whatever its score, if it
    fits. `cosines`, if there are any, are those of the question with each of
    `sentences_of(passages)`. Raises InvalidRequest for a negative budget or cosines that do not
    go with the sentences.
    """
    if budget_tokens < 0:
        raise InvalidRequest(f"a budget is at least 0 tokens, got {budget_tokens}", field="budget")
    options = options or SelectOptions()
    sentences = sentences_of(passages)
    if cosines is not None and len(cosines) != len(sentences):
        raise InvalidRequest(
            f"{len(cosines)} cosines for {len(sentences)} sentences", field="cosines"
        )
    titles = [passage.chunk.title for passage in passages]
    signals = sentence_signals(question, titles, sentences, cosines)
    scores = (options.scorer or default_scorer()).score(signals)
    chosen = _Selection(passages, sentences, scores, count_tokens, budget_tokens, options)
    chosen.fill()
    return chosen.context()


class _Selection:
    """Sentences taken one by one, best first."""

    def __init__(
        self,
        passages: Sequence[Passage],
        sentences: Sequence[Sentence],
        scores: Array,
        count_tokens: CountTokens,
        budget_tokens: int,
        options: SelectOptions,
    ) -> None:
        self._passages = passages
        self._sentences = sentences
        self._scores = scores
        self._count = count_tokens
        self._budget = budget_tokens
        self._options = options
        self._frames = [options.frame(passage) for passage in passages]
        self._titles = [frozenset(stems(passage.chunk.title)) for passage in passages]
        self._words = [
            self._titles[sentence.rank].union(stemmed(sentence.words)) for sentence in sentences
        ]
        self._order = np.argsort(-scores, kind="stable").tolist()
        self._kept: list[int] = []
        self._why: dict[int, tuple[CutReason, int | None]] = {}

    def fill(self) -> None:
        """Decide on every sentence.

        Each is counted by itself first; a text in one piece may take another number of tokens
        than its parts, so what is too much then is given up again, worst first.
        """
        left = self._budget
        opened: set[int] = set()
        for index in self._order:
            rank = self._sentences[index].rank
            if self._kept and self._scores[index] < self._options.min_score:
                self._why[index] = CutReason.LOW_SCORE, None
                continue
            like = self._said_by(index)
            if like is not None:
                self._why[index] = CutReason.REDUNDANT, self._sentences[like].rank
                continue
            cost = self._count(self._sentences[index].text)
            if rank not in opened:
                cost += self._count(self._frames[rank]) if self._frames[rank] else 0
            full = rank not in opened and len(opened) == self._options.max_passages
            if full or cost > left:
                self._why[index] = CutReason.OVER_BUDGET, None
                continue
            left -= cost
            opened.add(rank)
            self._kept.append(index)
        while self._kept and sum(kept.tokens for kept in self._kept_passages()) > self._budget:
            self._why[self._kept.pop()] = CutReason.OVER_BUDGET, None

    def context(self) -> Context:
        kept = self._kept_passages()
        return Context(
            passages=kept,
            cut=tuple(
                CutSentence(
                    rank=sentence.rank,
                    span=sentence.span,
                    score=float(self._scores[index]),
                    reason=self._why[index][0],
                    like=self._why[index][1],
                )
                for index, sentence in enumerate(self._sentences)
                if index in self._why
            ),
            tokens=sum(passage.tokens for passage in kept),
            offered_tokens=sum(
                self._count(frame + passage.chunk.text.strip())
                for frame, passage in zip(self._frames, self._passages, strict=True)
            ),
            budget_tokens=self._budget,
        )

    def _said_by(self, index: int) -> int | None:
        """A kept sentence that holds nearly all of this one's words, if there is one.

        The title's words must all be there: the same said of somebody else is not the same.
        """
        words, title = self._words[index], self._titles[self._sentences[index].rank]
        least = _SAME_SHARE * len(words) if len(words) >= _FEWEST_WORDS else len(words)
        for kept in self._kept:
            if title <= self._words[kept] and len(words & self._words[kept]) >= least:
                return kept
        return None

    def _kept_passages(self) -> tuple[KeptPassage, ...]:
        """What is kept so far, in order of rank."""
        by_rank: dict[int, list[int]] = {}
        for index in sorted(self._kept):
            by_rank.setdefault(self._sentences[index].rank, []).append(index)
        return tuple(self._kept_passage(rank, members) for rank, members in by_rank.items())

    def _kept_passage(self, rank: int, members: Sequence[int]) -> KeptPassage:
        runs: list[Span] = []
        for index in members:
            span = self._sentences[index].span
            if runs and runs[-1].end == span.start:
                runs[-1] = Span(runs[-1].start, span.end)
            else:
                runs.append(span)
        passage = self._passages[rank]
        text = self._frames[rank] + joined(passage.chunk.text, tuple(runs))
        return KeptPassage(
            rank=rank,
            passage=passage,
            runs=tuple(runs),
            score=float(self._scores[list(members)].max()),
            tokens=self._count(text),
        )
