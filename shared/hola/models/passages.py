"""Passages and a question as one message, in the form the family was trained to read.

A passage is data. Before it is placed it becomes one line, so that it cannot begin a line of the
template, and every control token that it spells is broken, so that it cannot open a role.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from hola.errors import ArtifactInvalid
from hola.models.family import Family
from hola.models.prompt import compiled

# For a family whose manifest has no "passage_template".
GENERAL_FORM = (
    "Passages:\n"
    "{% for passage in passages %}"
    "[{{ passage.number }}]{{ ' ' + passage.title + ':' if passage.title else '' }} "
    "{{ passage.text }}\n"
    "{% endfor %}"
    "\n\nAnswer the question; use the passages where they help.\nQuestion: {{ question }}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPassage:
    """A passage as a template sees it; `title` and `text` are `Disarm`'s."""

    number: int
    text: str
    title: str = ""


def render_passages(family: Family, passages: Sequence[PromptPassage], question: str) -> str:
    """The content of the message that asks `question` with these passages.

    By the manifest's `passage_template`, in jinja2's sandbox as a chat template is, else by
    GENERAL_FORM. Raises ArtifactInvalid for a template that is broken.
    """
    try:
        template = compiled(family.passage_template or GENERAL_FORM)
        return template.render(passages=list(passages), question=question)
    except ArtifactInvalid as error:
        raise ArtifactInvalid(f"passage template of {family.name}: {error.message}") from error
    except Exception as error:  # a template is foreign code and may raise anything
        raise ArtifactInvalid(f"the passage template of {family.name} failed: {error}") from error


class Disarm:
    """Makes text harmless for one tokenizer. Thread-safe."""

    def __init__(
        self, encode: Callable[[str], Sequence[int]], controls: Collection[tuple[int, str]]
    ) -> None:
        """`controls`: id and spelling of every token that is matched in text as a whole."""
        self._encode = encode
        self._ids = frozenset(id_ for id_, _ in controls)
        spellings = {" ".join(text.split()) for _, text in controls}
        # Longest first: a token may contain another one.
        self._spellings = sorted((text for text in spellings if text[1:]), key=len, reverse=True)

    def __call__(self, text: str) -> str | None:
        """The text on one line, a space inside each control token it spelled.

        None where it still encodes to one (a tokenizer that folds other characters into it).
        """
        line = " ".join(text.split())
        for spelling in self._spellings:
            line = line.replace(spelling, " ".join((spelling[:1], spelling[1:])).strip())
        return None if self._ids & set(self._encode(line)) else line
