"""HTML into blocks: what a reader sees, under its headings; no script, style or navigation."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from hola.retrieval.types import Block, Document

_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?\s{0,10}([A-Za-z0-9_.:-]{1,40})", re.I)
_HEAD_BYTES = 2048
_SKIPPED = {"script", "style", "noscript", "template", "svg", "nav", "iframe", "object"}
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = {
    "p", "div", "section", "article", "main", "header", "footer", "aside", "ul", "ol", "dl",
    "table", "blockquote", "pre", "figure", "form", "body", "hr",
}  # fmt: skip
_LINES = {"br", "li", "tr", "dt", "dd", "option", "caption", "figcaption"}
_CELLS = {"td", "th"}
_SPACES = re.compile(r"[ \t\r\f\v\u00a0]+")
_MAX_TITLE = 300


def declared_encoding(data: bytes) -> str:
    """The charset the page names in its head, or ""."""
    found = _CHARSET.search(data[:_HEAD_BYTES])
    return found.group(1).decode("ascii") if found else ""


def read_html(text: str, source: str) -> Document:
    """A page's visible text. The title is the page's, else its first heading of level 1."""
    parser = _Page()
    parser.feed(text)
    parser.close()
    parser.end_block()
    title = " ".join("".join(parser.title).split())[:_MAX_TITLE]
    return Document(source=source, title=title or parser.first, blocks=tuple(parser.blocks))


class _Page(HTMLParser):
    """Collects blocks while tags open and close; unclosed ones do no harm."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self.title: list[str] = []
        self.first = ""
        self._parts: list[str] = []
        self._path: dict[int, str] = {}
        self._skipping = ""
        self._depth = 0
        self._in_title = False
        self._preformatted = 0
        self._level = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag opens."""
        if self._skipping:
            self._depth += tag == self._skipping
        elif tag in _SKIPPED:
            self._skipping, self._depth = tag, 1
        elif tag == "title":
            self._in_title = True
        elif tag in _HEADINGS:
            self.end_block()
            self._level = _HEADINGS[tag]
        elif tag in _BLOCKS:
            self.end_block()
            self._preformatted += tag == "pre"
        elif tag in _LINES:
            self._parts.append("\n- " if tag == "li" else "\n")
        elif tag in _CELLS:
            self._parts.append(" | ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that closes itself holds nothing to skip."""
        if tag not in _SKIPPED:
            super().handle_startendtag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """A tag closes."""
        if self._skipping:
            self._depth -= tag == self._skipping
            if not self._depth:
                self._skipping = ""
        elif tag == "title":
            self._in_title = False
        elif tag in _HEADINGS:
            self._end_heading()
        elif tag in _BLOCKS:
            self.end_block()
            self._preformatted = max(0, self._preformatted - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        """Text between tags."""
        if self._skipping:
            return
        if self._in_title:
            self.title.append(data)
        else:
            flat = data if self._preformatted else _SPACES.sub(" ", data.replace("\n", " "))
            self._parts.append(flat)

    def end_block(self) -> None:
        """Close the open block."""
        if self._level:
            self._end_heading()
            return
        lines = "".join(self._parts).split("\n")
        self._parts.clear()
        kept = [line.rstrip() if self._preformatted else line.strip(" |") for line in lines]
        text = "\n".join(line for line in kept if line.strip(" -")).strip("\n")
        if text.strip():
            path = tuple(self._path[level] for level in sorted(self._path))
            self.blocks.append(Block(text=text, heading=path))

    def _end_heading(self) -> None:
        text = " ".join("".join(self._parts).split())[:_MAX_TITLE]
        self._parts.clear()
        level, self._level = self._level, 0
        if level and text:
            self._path = {at: name for at, name in self._path.items() if at < level}
            title = " ".join("".join(self.title).split())
            if level == 1 and not title and not self.first:
                self.first = text  # the page has no other title
            elif text != title:
                self._path[level] = text
