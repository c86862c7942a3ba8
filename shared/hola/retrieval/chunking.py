"""A document cut into chunks: along its structure first, then sentences, then words; pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from hola.errors import InvalidRequest
from hola.retrieval.types import Block, Chunk, Document

# About 230 tokens of English: a MiniLM encoder reads 256 and would cut the rest off.
DEFAULT_MAX_CHARS = 1000
DEFAULT_OVERLAP_CHARS = 150
MIN_CHARS = 40
PARAGRAPH = "\n\n"
_SENTENCE = re.compile("(?<=[.!?\u3002\uff01\uff1f])[\"')\\]]*\\s+|\\n+")
_HEADING_JOINER = " > "


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text that is not cut again, and what joins it to the one before."""

    text: str
    joiner: str


def chunk_document(
    document: Document,
    *,
    max_chars: int = DEFAULT_MAX_CHARS,
    overlap_chars: int = DEFAULT_OVERLAP_CHARS,
) -> tuple[Chunk, ...]:
    """Cut a document into chunks of at most `max_chars` characters.

    A chunk never spans two headings or pages. Blocks are joined while they fit; one that does not
    fit is cut between sentences, a sentence between words, a word anywhere. A chunk that goes on
    with its section begins with up to `overlap_chars` of whole pieces from the end of the one
    before. Nothing but white space is lost. Raises InvalidRequest for impossible sizes.
    """
    if max_chars < MIN_CHARS:
        raise InvalidRequest(f"a chunk has at least {MIN_CHARS} characters", field="chunk_chars")
    if not 0 <= overlap_chars <= max_chars // 2:
        raise InvalidRequest("overlap must be 0 to half a chunk", field="overlap_chars")
    chunks: list[Chunk] = []
    for (heading, page), blocks in groupby(document.blocks, key=_section):
        pieces = [piece for block in blocks for piece in _pieces(block, max_chars)]
        for packed in _pack(pieces, max_chars, overlap_chars):
            chunks.append(
                Chunk(
                    text=_joined(packed),
                    title=document.title,
                    heading=_HEADING_JOINER.join(heading),
                    page=page,
                )
            )
    return tuple(chunks)


def digest_of(chunks: Sequence[Chunk]) -> str:
    """Hex sha256 that is equal for equal chunks in equal order on equal pages."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(f"{chunk.id}:{chunk.page}\n".encode())
    return digest.hexdigest()


def _section(block: Block) -> tuple[tuple[str, ...], int]:
    return block.heading, block.page


def _pieces(block: Block, max_chars: int) -> Iterator[_Piece]:
    """A block as one piece if it fits, else its sentences, each cut where it does not fit."""
    text = block.text.strip()
    if len(text) <= max_chars:
        if text:
            yield _Piece(text, PARAGRAPH)
        return
    joiner = PARAGRAPH
    for sentence, follows_line in _sentences(text):
        for part in _cut(sentence, max_chars):
            yield _Piece(part, joiner)
            joiner = " "
        joiner = "\n" if follows_line else " "


def _sentences(text: str) -> Iterator[tuple[str, bool]]:
    """Sentences, and whether a line ends behind each."""
    start = 0
    for gap in _SENTENCE.finditer(text):
        end = gap.start() + len(gap.group().rstrip())  # closing quotes stay with their sentence
        if text[start:end].strip():
            yield text[start:end].rstrip(), "\n" in gap.group()
        start = gap.end()
    if text[start:].strip():
        yield text[start:].rstrip(), False


def _cut(text: str, max_chars: int) -> Iterator[str]:
    """Parts of at most max_chars, cut at the last white space that allows it."""
    start = 0
    while len(text) - start > max_chars:
        end = start + max_chars
        space = max(text.rfind(mark, start + 1, end + 1) for mark in (" ", "\t", "\n"))
        end = space if space > 0 else end
        if text[start:end].strip():
            yield text[start:end].rstrip()
        start = end
        while start < len(text) and text[start].isspace():
            start += 1
    if text[start:]:
        yield text[start:]


def _pack(pieces: list[_Piece], max_chars: int, overlap_chars: int) -> Iterator[list[_Piece]]:
    """Runs of pieces that fit, each beginning with the end of the one before."""
    packed: list[_Piece] = []
    for piece in pieces:
        if packed and not _fits([*packed, piece], max_chars):
            yield packed
            packed = _tail(packed, overlap_chars)
            while packed and not _fits([*packed, piece], max_chars):
                packed = packed[1:]
        packed.append(piece)
    if packed:
        yield packed


def _tail(packed: list[_Piece], overlap_chars: int) -> list[_Piece]:
    """The last pieces that make up at most overlap_chars; never all of them."""
    for start in range(1, len(packed)):
        if len(_joined(packed[start:])) <= overlap_chars:
            return packed[start:]
    return []


def _fits(pieces: list[_Piece], max_chars: int) -> bool:
    return len(_joined(pieces)) <= max_chars


def _joined(pieces: Sequence[_Piece]) -> str:
    first, *others = pieces
    return first.text + "".join(piece.joiner + piece.text for piece in others)
