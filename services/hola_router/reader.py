"""A family as the planner needs it: its tokens, its passage form, and passages made harmless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hola.engines.tokenizer import FileTokenizer, load_tokenizer
from hola.models.family import Family
from hola.models.passages import Disarm, PromptPassage, render_passages
from hola.models.prompt import render_chat
from hola.types import ChatMessage


class Reader:
    """One family's. Thread-safe; its calls block for milliseconds."""

    def __init__(self, family: Family) -> None:
        """Reads the tokenizer. Raises ArtifactInvalid, MissingExtra."""
        self.family = family
        self._tokenizer: FileTokenizer = load_tokenizer(family.target.path)
        self._disarm = Disarm(self._tokenizer.encode, self._tokenizer.controls)

    @property
    def fingerprint(self) -> str:
        """The tokenizer's."""
        return self._tokenizer.fingerprint

    def tokens(self, text: str) -> tuple[int, ...]:
        """Token ids of a prompt. Raises InvalidRequest for text that is no Unicode."""
        return tuple(self._tokenizer.encode(text))

    def text(self, tokens: Sequence[int]) -> str:
        """Text of tokens."""
        return self._tokenizer.decode(tokens)

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self._tokenizer.encode(text))

    def harmless(self, text: str) -> str | None:
        """As Disarm."""
        return self._disarm(text)

    def frame(self, passage: PromptPassage) -> str:
        """What the passage form puts around one passage whose text is empty. Raises as `prompt`."""
        without = render_passages(self.family, [], "")
        framed = render_passages(self.family, [passage], "")
        begin = _alike(framed, without)
        end = _alike(framed[begin:][::-1], without[begin:][::-1])
        return framed[begin : len(framed) - end]

    def prompt(self, messages: Sequence[ChatMessage], passages: Sequence[PromptPassage]) -> str:
        """The prompt of a conversation whose last message asks with these passages before it.

        What comes earlier stays as it is, so that a system prompt's cache holds whatever is found.
        Raises as `render_chat` and `render_passages`.
        """
        if not passages:
            return render_chat(self.family, messages)
        last = messages[-1]
        asked = render_passages(self.family, passages, last.content)
        return render_chat(self.family, [*messages[:-1], replace(last, content=asked)])


def _alike(left: str, right: str) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))
