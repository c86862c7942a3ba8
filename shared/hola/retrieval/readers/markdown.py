"""Text and Markdown into blocks: paragraphs, lists and code under their headings; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hola.retrieval.types import Block, Document

_HEADING = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.IGNORECASE)
_MAX_TITLE = 300


def read_text(text: str, source: str) -> Document:
    """Plain text: a block per paragraph."""
    paragraphs = re.split(r"\n[ \t]*\n", _lines_normalized(text))
    blocks = tuple(Block(text=part.strip("\n")) for part in paragraphs if part.strip())
    return Document(source=source, blocks=blocks)


def read_markdown(text: str, source: str) -> Document:
    """Markdown: a block per paragraph, list or fenced code; headings give each its path.

    The title is the front matter's, else the first heading of level 1.
    """
    lines = _lines_normalized(text).split("\n")
    title, start = _front_matter(lines)
    outline = _Outline(title=title)
    index = start
    while index < len(lines):
        index = _step(outline, lines, index)
    outline.end_block()
    return Document(source=source, title=outline.title, blocks=tuple(outline.blocks))


@dataclass(slots=True)
class _Outline:
    """Blocks so far, the open block's lines, and the headings above it by level."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    headings: dict[int, str] = field(default_factory=dict)

    def end_block(self) -> None:
        """Close the open block."""
        text = "\n".join(self.lines).strip("\n")
        self.lines.clear()
        if text.strip():
            path = tuple(self.headings[level] for level in sorted(self.headings))
            self.blocks.append(Block(text=text, heading=path))

    def begin_section(self, level: int, heading: str) -> None:
        """Close the open block and the sections of this level or deeper."""
        self.end_block()
        self.headings = {at: name for at, name in self.headings.items() if at < level}
        if level == 1 and not self.title and heading:
            self.title = heading[:_MAX_TITLE]
        elif heading and heading != self.title:
            self.headings[level] = heading[:_MAX_TITLE]


def _step(outline: _Outline, lines: list[str], index: int) -> int:
    """Take one line, or a whole fenced block; the index of the next."""
    line = lines[index]
    if fence := _FENCE.match(line):
        end = _fence_end(lines, index, fence.group(1))
        outline.lines += lines[index:end]
        return end
    if heading := _HEADING.match(line):
        outline.begin_section(len(heading.group(1)), heading.group(2) or "")
    elif (underline := _UNDERLINE.match(line)) and len(outline.lines) == 1:
        text = outline.lines.pop().strip()
        outline.begin_section(1 if underline.group(1)[0] == "=" else 2, text)
    elif not line.strip():
        outline.end_block()
    else:
        outline.lines.append(line.rstrip())
    return index + 1


def _fence_end(lines: list[str], start: int, fence: str) -> int:
    """The index behind the closing fence, or the end of the text."""
    closing = re.compile(rf"^ {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
    for index in range(start + 1, len(lines)):
        if closing.match(lines[index]):
            return index + 1
    return len(lines)


def _front_matter(lines: list[str]) -> tuple[str, int]:
    """The title in a YAML head and the index behind it; ("", 0) where there is none."""
    if not lines or lines[0].rstrip() != "---":
        return "", 0
    title = ""
    for index, line in enumerate(lines[1:200], 1):
        if line.rstrip() in {"---", "..."}:
            return title, index + 1
        if found := _TITLE.match(line):
            title = found.group(1).strip("\"'")[:_MAX_TITLE]
    return "", 0


def _lines_normalized(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
