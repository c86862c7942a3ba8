"""Words of a text, and how rare each is among the texts a gate was fitted on."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MAX_WORDS = 256
_WORD = re.compile(r"\w+(?:'\w+)?")


def words(text: str) -> list[str]:
    """Lower-case words in order, at most MAX_WORDS."""
    found = []
    for match in _WORD.finditer(text):
        found.append(match.group().lower())
        if len(found) == MAX_WORDS:
            break
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class WordCounts:
    """In how many of `texts` texts each word stands; a word that is left out stands in none."""

    texts: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, texts: Iterable[str]) -> WordCounts:
        """Count the words of texts."""
        counts: Counter[str] = Counter()
        total = 0
        for text in texts:
            counts.update(set(words(text)))
            total += 1
        return cls(texts=total, counts=counts)

    def rarity(self, word: str, *, own: bool = False) -> float:
        """Nats of surprise, from 0 (stands in every text) to log(texts + 1) (in none).

        `own`: the word's text is one of those counted; it is left out of the count, so that texts
        a gate is fitted on look like those it will see.
        """
        texts = self.texts - own
        return math.log((texts + 1) / (max(self.counts.get(word, 0) - own, 0) + 1))
