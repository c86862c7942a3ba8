"""Words of a text as context selection compares them: folded, stemmed, without stop words."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from hola.retrieval.terms import STOP_WORDS

_WORD = re.compile(r"\w+")
_IN_BRACKETS = re.compile(r"\s*\([^()]*\)\s*$")
# Texts without spaces between words: each of these characters is a word.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


def folded(text: str) -> str:
    """Lower case, accents removed: "Métal" is found by "metal"."""
    if not text.isascii():
        apart = unicodedata.normalize("NFKD", _UNSPACED.sub(r" \g<0> ", text))
        text = "".join(char for char in apart if not unicodedata.combining(char))
    return text.lower()


def plain(text: str) -> str:
    """The folded words with a space before and behind each, so that `in` compares whole words."""
    return f" {' '.join(_WORD.findall(folded(text)))} "


def plain_title(title: str) -> str:
    """A title as texts mention it: without what stands in brackets at its end."""
    return plain(_IN_BRACKETS.sub("", title))


def stems(text: str) -> list[str]:
    """Stems of the words in order, stop words left out."""
    return [stem(word) for word in _WORD.findall(folded(text)) if word not in STOP_WORDS]


def name_stems(text: str) -> set[str]:
    """Stems of the words that hold a capital letter or a digit: names, years, titles."""
    return {
        stem(folded(word))
        for word in _WORD.findall(text)
        if not word.islower() and folded(word) not in STOP_WORDS
    }


@lru_cache(maxsize=16_384)
def stem(word: str) -> str:
    """A word without the commonest English endings; crude, and the same on both sides."""
    size = len(word)
    if size > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    for ending, least in (("ing", 6), ("ed", 5), ("es", 4), ("s", 4), ("e", 5)):
        if size >= least and word.endswith(ending) and not word.endswith("ss"):
            return word[: -len(ending)]
    return word
