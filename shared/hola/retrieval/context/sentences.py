"""Text cut into sentences, as ranges of characters that together are the whole text; pure.

A rule-based splitter: it would rather keep two sentences together than cut one in half. What a
full stop means is told from the word before it (abbreviation, initial, number) and from what
follows (a small letter goes on with the sentence).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A piece longer than this that has line breaks is a table, a list or code: its lines are cut.
LINES_FROM_CHARS = 300

_CLOSERS = "\"'\u2019\u201d\u00bb\u300d\u300f\uff02)\\]}\uff09\u3011"
# Marks of scripts that put no space behind a sentence: they end it wherever they stand.
_TIGHT = "\u3002\uff01\uff1f\uff61\u1362\u104b\u17d4"
_SPACED = ".!?\u2026\u203c\u2047\u2048\u2049\u0964\u0965\u061f\u06d4\u0589"
_END = re.compile(
    rf"(?P<tight>[{_TIGHT}]+[{_CLOSERS}]*\s*)"
    rf"|(?P<spaced>[{_SPACED}]+[{_CLOSERS}]*(?=\s|$)\s*)"
    r"|(?P<blank>\s*\n\s*\n\s*)"
    r"|(?P<item>[^\S\n]*\n[^\S\n]*(?=[-*\u2022|#>]\s|\d{1,3}[.)]\s|\|))"
)
_LINE = re.compile(r"[^\n]*\n\s*|[^\n]+$")
_WORD_BEFORE = re.compile(r"[^\s(\[{\"'\u201c\u2018\u00ab]+$")
# Always go on: a name or a number follows.
_TITLES = frozenset(
    "mr mrs ms mx dr prof st ste mt rev fr sr hon gen col maj capt cpt cmdr lt sgt cpl pvt adm brig"
    " gov sen rep pres messrs mme mlle no nos vol vols fig figs eq eqs sec ch chap pp p art ed eds"
    " trans vs v cf ca c e.g i.e viz al approx est op nr bzw z.b d.h usw".split()
)
# May end a sentence: they do where a word follows that often begins one.
_MAYBE = frozenset(
    "jr sr inc ltd co corp bros dept univ etc a.m p.m b.c a.d ph.d m.d b.a m.a jan feb mar apr jun"
    " jul aug sep sept oct nov dec mon tue wed thu fri sat sun ave blvd rd ft min max u.s u.k u.n"
    " d.c e.u".split()
)
_STARTERS = frozenset(
    "the a an he she it they we i you this that these those his her its their our my there here in"
    " on at by for from with after before during since when while although as but and however if"
    " it's he's she's what who how why where some many most all no one two".split()
)
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (exclusive) of a text."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """The characters themselves."""
        return text[self.start : self.end]


def split_sentences(text: str) -> tuple[Span, ...]:
    """Spans of `text` in order, each beginning where the last one ended: no character is lost.

    White space behind a sentence belongs to it; a span of white space alone stands only where the
    whole text is that. None for an empty text.
    """
    spans: list[Span] = []
    start = 0
    for end in _ends(text):
        for part in _lines(text, start, end):
            if spans and not part.of(text).strip():
                spans[-1] = Span(spans[-1].start, part.end)
            else:
                spans.append(part)
        start = end
    if len(spans) > 1 and not spans[0].of(text).strip():
        spans[:2] = [Span(0, spans[1].end)]
    return tuple(spans)


def _ends(text: str) -> Iterator[int]:
    """Where sentences end, the end of the text last."""
    start = 0
    for mark in _END.finditer(text):
        end = mark.end()
        if end == len(text):
            break
        if mark.lastgroup == "spaced" and not _ends_sentence(text, start, mark):
            continue
        yield end
        start = end
    if text:
        yield len(text)


def _ends_sentence(text: str, start: int, mark: re.Match[str]) -> bool:
    """Whether these marks, with white space behind them, end the sentence from `start`."""
    follows = text[mark.end()]
    if "\n\n" in mark.group().replace(" ", ""):
        return True
    if follows.islower():
        return False
    if not mark.group().rstrip().startswith(".") or mark.group().startswith(".."):
        return True
    before = _WORD_BEFORE.search(text, start, mark.start())
    if before is None:
        return True
    word = before.group()
    bare = word.lower()
    if bare in _TITLES and not (bare == "no" and not follows.isdigit()):
        return False
    if word.isdigit() and not text[start : before.start()].strip():
        return False  # the number of an item
    if bare in _MAYBE or _INITIALS.fullmatch(word):
        return _word_at(text, mark.end()) in _STARTERS
    return True


def _word_at(text: str, at: int) -> str:
    match = re.compile(r"[\w']+").match(text, at)
    return match.group().lower() if match else ""


def _lines(text: str, start: int, end: int) -> Iterator[Span]:
    """The piece as it is, or its lines where it is long and has several."""
    if end - start <= LINES_FROM_CHARS or "\n" not in text[start:end].strip():
        yield Span(start, end)
        return
    for line in _LINE.finditer(text, start, end):
        yield Span(line.start(), line.end())
