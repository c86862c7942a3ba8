"""Signals that cost nothing: the surface of a question, and of the draft answer's text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from hola.retrieval.gate.words import WordCounts, words
from hola.retrieval.terms import STOP_WORDS

Signals = Mapping[str, float]

_YEAR = re.compile(r"\b(?:1\d{3}|20\d{2})\b")
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"[\d,.% ]+")
_ASKING = ("who", "what", "when", "where", "which", "how", "why")
_ASKING_FORMS = frozenset((*_ASKING, "whom", "whose"))
_YES_NO = frozenset("is are was were do does did can could has have had will would should".split())
_ONE_OF_MANY = frozenset(
    "first last most least largest smallest longest highest only oldest latest best".split()
)
MAX_CHARS: Final = 4096


def question_signals(text: str, counts: WordCounts, *, own: bool = False) -> dict[str, float]:
    """Surface of a question: lengths, spelling, kind, and how rare its words are.

    `own`: the question is one of those `counts` was made of. Reads the first MAX_CHARS characters.
    """
    text = text[:MAX_CHARS]
    found = words(text)
    content = [word for word in found if word not in STOP_WORDS]
    asking = [i for i, word in enumerate(found) if word in _ASKING_FORMS]
    first = found[0] if found else ""
    present = set(found)
    raw = text.split()
    signals: dict[str, float] = {
        "q_chars": len(text),
        "q_words": len(found),
        "q_content_words": len(content),
        "q_word_chars": sum(map(len, found)) / max(len(found), 1),
        "q_longest_word": max(map(len, found), default=0),
        "q_stop_share": 1 - len(content) / max(len(found), 1),
        "q_the": found.count("the"),
        "q_starts_upper": text[:1].isupper(),
        "q_capitals": sum(map(str.isupper, text[1:])),
        "q_capital_words": sum(word[:1].isupper() for word in raw[1:]),
        "q_digit": bool(_DIGIT.search(text)),
        "q_year": bool(_YEAR.search(text)),
        "q_quotes": text.count('"'),
        "q_commas": text.count(","),
        "q_apostrophes": text.count("'"),
        "q_foreign": sum(ord(letter) > 127 for letter in text),
        "q_question_mark": text.rstrip().endswith("?"),
        "q_spaced_mark": " ?" in text,
        "q_asks_at": asking[0] if asking else -1,
        "q_asks_first": first in _ASKING,
        "q_yes_no": first in _YES_NO,
        "q_one_of_many": not _ONE_OF_MANY.isdisjoint(present),
        "q_how_many": "how many" in text.lower() or "how much" in text.lower(),
        **{f"q_{word}": word in present for word in _ASKING},
        **_rarities("q", content, counts, own),
    }
    return {name: float(value) for name, value in signals.items()}


def answer_signals(question: str, answer: str, counts: WordCounts) -> dict[str, float]:
    """Surface of the model's own draft answer: its length, its form, what it repeats."""
    question, answer = question[:MAX_CHARS], answer[:MAX_CHARS].strip()
    found = words(answer)
    content = {word for word in found if word not in STOP_WORDS}
    signals: dict[str, float] = {
        "a_chars": len(answer),
        "a_words": len(found),
        "a_digit": bool(_DIGIT.search(answer)),
        "a_year": bool(_YEAR.search(answer)),
        "a_number": bool(_NUMBER.fullmatch(answer)),
        "a_capital_words": sum(word[:1].isupper() for word in answer.split()),
        "a_commas": answer.count(","),
        "a_in_question": bool(answer) and answer.lower() in question.lower(),
        "a_repeated_share": len(content & set(words(question))) / max(len(content), 1),
        "a_yes_no": answer.lower().rstrip(".") in {"yes", "no"},
        "a_none": not answer or "no answer" in answer.lower(),
        **_rarities("a", sorted(content), counts, own=False),
    }
    return {name: float(value) for name, value in signals.items()}


def _rarities(side: str, content: list[str], counts: WordCounts, own: bool) -> dict[str, float]:
    rarities = sorted((counts.rarity(word, own=own) for word in content), reverse=True) or [0.0]
    unseen = counts.rarity("", own=own)
    return {
        f"{side}_rarity_mean": sum(rarities) / len(rarities),
        f"{side}_rarity_max": rarities[0],
        f"{side}_rarity_second": rarities[min(1, len(rarities) - 1)],
        f"{side}_rarity_min": rarities[-1],
        f"{side}_unseen": sum(rarity >= unseen for rarity in rarities),
    }
