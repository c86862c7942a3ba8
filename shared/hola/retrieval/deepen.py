"""The second hop of a deep search: names that the first passages bring up, as pure functions."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from hola.retrieval.context.lexical import stems
from hola.retrieval.fusion import reciprocal_ranks
from hola.retrieval.terms import STOP_WORDS, terms
from hola.retrieval.types import Passage

K = TypeVar("K", bound=Hashable)

LOOKED_AT = 5
MOST_NAMES = 8
_NAME = re.compile(r"[^\W\d_][\w'\u2019-]+")
_SENTENCE_END = re.compile(r"[.!?:]\s*$|^\s*$")


def new_names(question: str, passages: Sequence[Passage], *, most: int = MOST_NAMES) -> list[str]:
    """Names in the first passages that the question lacks: those of the best passages first.

    A name is a capitalized word that does not only stand where a sentence begins, or a word of a
    title. A passage that shares no word with the question names nothing worth following.
    """
    asked = set(stems(question))
    found: dict[str, float] = {}
    first: dict[str, int] = {}
    for rank, passage in enumerate(passages[:LOOKED_AT]):
        shared = len(asked & set(stems(passage.chunk.embedded_text)))
        for name in _names(passage.chunk.title, passage.chunk.text):
            if shared and asked.isdisjoint(stems(name)) and name.lower() not in STOP_WORDS:
                found[name] = found.get(name, 0.0) + shared / (1 + rank)
                first.setdefault(name, rank)
    return sorted(found, key=lambda name: (-found[name], first[name], name))[:most]


def unanswered(question: str, passages: Sequence[Passage]) -> set[str]:
    """Stems of the question's words that the best passage does not have."""
    held = stems(passages[0].chunk.embedded_text) if passages else []
    return set(stems(question)) - set(held)


def follow_up(question: str, passages: Sequence[Passage]) -> str:
    """What to search for next: new names with the words that nothing has answered yet.

    "" where there is neither: the best passage says it all, or leads nowhere.
    """
    open_words = unanswered(question, passages)
    names = new_names(question, passages) if open_words else []
    asked = [word for word in terms(question) if not open_words.isdisjoint(stems(word))]
    return " ".join((*asked, *names)) if names else ""


def bridging(
    question: str, first: Sequence[Passage], second: Sequence[Passage]
) -> tuple[bool, ...]:
    """Which passages of a second hop bring a word of the question that the best one lacks.

    Without this, a name that many share (a town) floods the prompt with everybody who lives there.
    """
    open_words = unanswered(question, first)
    return tuple(
        not open_words.isdisjoint(stems(passage.chunk.embedded_text)) for passage in second
    )


def merged(rankings: Iterable[Sequence[K]]) -> dict[K, float]:
    """Several searches as one, best first: the sum of 1 / (60 + rank) of each.

    Cormack, Clarke and Buettcher, SIGIR 2009. Their scores need not be comparable, as those of two
    collections or of two questions are not.
    """
    total: dict[K, float] = {}
    for ranking in rankings:
        order: Mapping[K, float] = {key: -float(at) for at, key in enumerate(ranking)}
        for key, share in reciprocal_ranks(order).items():
            total[key] = total.get(key, 0.0) + share
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _names(title: str, text: str) -> list[str]:
    names = [match.group() for match in _NAME.finditer(title)]
    for match in _NAME.finditer(text):
        word = match.group()
        begins = _SENTENCE_END.search(text[max(0, match.start() - 3) : match.start()])
        if word[0].isupper() and not begins:
            names.append(word)
    return list(dict.fromkeys(names))
