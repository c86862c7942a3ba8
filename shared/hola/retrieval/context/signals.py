"""What speaks for a sentence: words it shares with the question, who names whom, where it stands.

Questions of two hops are why passages are looked at together: the second hop's passage has few of
the question's words, but its title stands in the first one's text, or the other way round.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hola.retrieval.context.lexical import folded_words, name_stems, plain, stemmed, title_words
from hola.retrieval.context.sentences import Span

Array = npt.NDArray[np.float64]

SIGNALS = (
    "words",  # share of the question's words (by rarity) in the sentence
    "words_best",  # that, as a share of the best sentence's
    "words_in_passage_best",  # that, as a share of the best sentence's in its passage
    "first",
    "position",
    "length",
    "year",
    "number",
    "names",  # it names another passage's title: the largest standing of those passages
    "names_asked",  # it names another passage's title that stands in the question
    "bridge",  # share of the names in the best sentences, those of the question left out
    "passage_words",
    "title_words",  # share of the question's words in the title
    "title_asked",  # share of the title's words in the question
    "title_named",  # the whole title stands in the question
    "bm25",  # of the passage among those given, as a share of the best
    "rank",  # 1 / (1 + rank)
    "named_by",  # another passage names its title: the largest standing of those passages
    "bridge_title",
    "sentences",
    "titles_named",  # how many titles stand in the question
    "cosine",  # of question and sentence; 0 where there are no vectors
    "cosine_best",  # that, as a share of the best
)
_NAMES_FROM = 4
_BRIDGE_NAMES = 8
_K1, _B = 1.2, 0.75
_SHORTEST_TITLE = 3
_YEAR = re.compile(r"\b(?:1\d{3}|20\d{2})\b")
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence of a passage: `rank` of the passage, `number` within it, both from 0.

    `words` are those of hola.retrieval.context.lexical.folded_words.
    """

    rank: int
    number: int
    span: Span
    text: str
    words: tuple[str, ...]


def sentence_signals(
    question: str,
    titles: Sequence[str],
    sentences: Sequence[Sentence],
    cosines: Sequence[float] | None = None,
) -> Array:
    """Signals of each sentence, shape (sentences, len(SIGNALS)).

    `titles` by rank of passage; `cosines` of question and sentences, if there are any.
    """
    if not sentences:
        return np.empty((0, len(SIGNALS)))
    return _Signals(question, titles, sentences, cosines).table()


class _Signals:
    """One question's passages, with what several signals need."""

    def __init__(
        self,
        question: str,
        titles: Sequence[str],
        sentences: Sequence[Sentence],
        cosines: Sequence[float] | None,
    ) -> None:
        self._sentences = sentences
        self._of = np.array([sentence.rank for sentence in sentences])
        asked = folded_words(question)
        self._asked = list(dict.fromkeys(stemmed(asked)))
        self._cosines = cosines
        plain_question = plain(asked)
        self._titles = [plain(title_words(title)) for title in titles]
        self._title_stems = [set(stemmed(title_words(title))) for title in titles]
        self._stems = [stemmed(sentence.words) for sentence in sentences]
        self._sets = [set(words) for words in self._stems]
        self._bags = self._passages()
        found = Counter(word for bag in self._bags for word in bag)
        count = len(titles)
        self._rarity = {
            word: math.log(1 + (count + 1) / (found[word] + 0.5)) for word in {*found, *self._asked}
        }
        self._total = sum(self._rarity[word] for word in self._asked if found[word]) or 1.0
        self._bm25 = self._lexical_scores(found)
        self._named = np.array(
            [len(title) > _SHORTEST_TITLE and title in plain_question for title in self._titles],
            np.float64,
        )
        # How much a passage matters before links are looked at, 0 to 1.
        self._standing = np.maximum(self._bm25, self._named)

    def table(self) -> Array:
        of, sentences = self._of, self._sentences
        words = np.array([self._covered(found) for found in self._sets])
        best_in = np.zeros(len(self._titles))
        np.maximum.at(best_in, of, words)
        mentions = self._mentions()
        names = mentions @ np.diag(self._standing)
        named_by = (mentions * self._standing[of][:, None]).max(axis=0)
        bridge = self._bridge(words + 0.5 * self._standing[of])
        weight = sum(bridge.values()) or 1.0
        counts = np.bincount(of, minlength=len(self._titles))
        numbers = np.array([sentence.number for sentence in sentences], np.float64)
        cosines = np.zeros(len(of)) if self._cosines is None else np.array(self._cosines)
        columns = (
            words,
            words / (words.max() or 1.0),
            words / np.where(best_in[of] > 0, best_in[of], 1.0),
            numbers == 0,
            np.minimum(numbers, 6),
            np.log1p([len(found) for found in self._stems]),
            [bool(_YEAR.search(sentence.text)) for sentence in sentences],
            [bool(_DIGIT.search(sentence.text)) for sentence in sentences],
            names.max(axis=1),
            (mentions * self._named[None, :]).max(axis=1),
            np.array([_sum_of(bridge, found) for found in self._sets]) / weight,
            np.array([self._covered(bag) for bag in self._bags])[of],
            np.array([self._covered(title) for title in self._title_stems])[of],
            np.array([self._asked_share(title) for title in self._title_stems])[of],
            self._named[of],
            self._bm25[of],
            1 / (1 + of),
            named_by[of],
            np.array([_sum_of(bridge, title) for title in self._title_stems])[of] / weight,
            np.minimum(counts[of], 8),
            np.full(len(of), min(self._named.sum(), 3.0)),
            cosines,
            cosines / max(cosines.max(), 1e-6),
        )
        return np.column_stack(columns).astype(np.float64)

    def _passages(self) -> list[Counter[str]]:
        bags: list[Counter[str]] = [Counter(title) for title in self._title_stems]
        for sentence, words in zip(self._sentences, self._stems, strict=True):
            bags[sentence.rank].update(words)
        return bags

    def _covered(self, words: set[str] | Counter[str]) -> float:
        """Share of the question's words among `words`, by rarity."""
        return sum(self._rarity[word] for word in self._asked if word in words) / self._total

    def _asked_share(self, words: set[str]) -> float:
        asked = set(self._asked)
        total = sum(self._rarity[word] for word in words)
        return sum(self._rarity[word] for word in words & asked) / (total or 1.0)

    def _lexical_scores(self, found: Counter[str]) -> Array:
        """BM25 of each passage among these, as a share of the best."""
        lengths = np.array([bag.total() for bag in self._bags], np.float64)
        usual = lengths.mean() or 1.0
        count = len(self._bags)
        scores = np.zeros(count)
        for word in self._asked:
            idf = math.log(1 + (count - found[word] + 0.5) / (found[word] + 0.5))
            often = np.array([bag[word] for bag in self._bags], np.float64)
            scores += idf * often * (_K1 + 1) / (often + _K1 * (1 - _B + _B * lengths / usual))
        return scores / (scores.max() or 1.0)

    def _mentions(self) -> Array:
        """1 where a sentence names another passage's title, shape (sentences, passages)."""
        mentions = np.zeros((len(self._sentences), len(self._titles)))
        texts = [plain(sentence.words) for sentence in self._sentences]
        for rank, title in enumerate(self._titles):
            if len(title) <= _SHORTEST_TITLE:
                continue
            for row, text in enumerate(texts):
                if title in text and title not in self._titles[self._of[row]]:
                    mentions[row, rank] = 1.0
        return mentions

    def _bridge(self, standing: Array) -> dict[str, float]:
        """Names in the best sentences that the question lacks, with their weights."""
        asked = set(self._asked)
        found: dict[str, float] = {}
        for row in np.argsort(-standing, kind="stable")[:_NAMES_FROM]:
            words = name_stems(self._sentences[row].text) | self._title_stems[self._of[row]]
            for word in words - asked:
                value = self._rarity.get(word, 0.0) * standing[row]
                found[word] = max(found.get(word, 0.0), float(value))
        strongest = sorted(found, key=lambda word: (-found[word], word))[:_BRIDGE_NAMES]
        return {word: found[word] for word in strongest}


def _sum_of(weights: dict[str, float], words: set[str]) -> float:
    return sum(value for word, value in weights.items() if word in words)
