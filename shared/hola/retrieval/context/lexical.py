"""Words of a text as context selection compares them: folded, stemmed, without stop words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from hola.retrieval.terms import STOP_WORDS

_WORD = re.compile(r"\w+")
_ACCENT = re.compile("[\u0300-\u036f]")
_IN_BRACKETS = re.compile(r"\s*\([^()]*\)\s*$")
# Texts without spaces between words: each of these characters is a word.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


def folded_words(text: str) -> tuple[str, ...]:
    """Words in order, lower case, accents of Latin letters removed: "Métal" is found by "metal"."""
    if not text.isascii():
        apart = unicodedata.normalize("NFKD", _UNSPACED.sub(r" \g<0> ", text))
        text = _ACCENT.sub("", apart)
    return tuple(_WORD.findall(text.lower()))


def plain(words: Sequence[str]) -> str:
    """The words with a space before and behind each, so that `in` compares whole words."""
    return f" {' '.join(words)} "


def title_words(title: str) -> tuple[str, ...]:
    """Folded words of a title as texts mention it: without what stands in brackets at its end."""
    return folded_words(_IN_BRACKETS.sub("", title))


def stems(text: str) -> list[str]:
    """Stems of a text's words in order, stop words left out."""
    return stemmed(folded_words(text))


def stemmed(words: Sequence[str]) -> list[str]:
    """Stems of folded words in order, stop words left out."""
    return [stem(word) for word in words if word not in STOP_WORDS]


def name_stems(text: str) -> set[str]:
    """Stems of the words that hold a capital letter or a digit: names, years, titles."""
    names = [word for word in _WORD.findall(text) if not word.islower()]
    return set(stems(" ".join(names)))


@lru_cache(maxsize=16_384)
def stem(word: str) -> str:
    """A word without the commonest English endings; crude, and the same on both sides."""
    size = len(word)
    if size > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    for ending, least in (("ing", 6), ("ed", 5), ("es", 4), ("s", 4), ("e", 4)):
        if size >= least and word.endswith(ending) and not word.endswith("ss"):
            return word[: -len(ending)]
    return word
