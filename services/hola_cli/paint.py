"""Shows a stream on a terminal, each piece of text in the colour of where it came from."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TextIO

from rich.console import Console
from rich.style import Style
from rich.text import Text

from hola.transcript import Transcript
from hola.types import (
    Correction,
    Exactness,
    GenerateEvent,
    Outcome,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)

TIER_COLOURS = ("cyan", "green", "blue", "bright_magenta", "bright_cyan", "bright_green")
OUTCOME_STYLES = {
    Outcome.CORRECTED: Style(color="yellow", bold=True),
    Outcome.BONUS: Style(color="magenta"),
    Outcome.PLAIN: Style(),
}
# C0 and C1 controls but newline and tab: a model must not drive the terminal.
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), "�")
del _CONTROLS[ord("\n")], _CONTROLS[ord("\t")]


def style_of(event: TokenEvent) -> Style:
    """Accepted: the proposing tier's colour; unverified: the same, underlined; else by outcome."""
    if event.outcome in OUTCOME_STYLES:
        return OUTCOME_STYLES[event.outcome]
    colour = TIER_COLOURS[event.tier % len(TIER_COLOURS)]
    return Style(color=colour, underline=event.outcome is Outcome.UNVERIFIED)


def harmless(text: str) -> str:
    """The text with control characters replaced, newlines and tabs kept."""
    return text.translate(_CONTROLS)


def legend(started: Started) -> Text:
    """One line: what each colour means."""
    line = Text("accepted from ", style="dim")
    for index, tier in enumerate(started.tiers[:-1]):
        line.append(f"{tier} ", style=Style(color=TIER_COLOURS[index % len(TIER_COLOURS)]))
    line.append("| ", style="dim")
    line.append("corrected ", style=OUTCOME_STYLES[Outcome.CORRECTED])
    line.append("bonus ", style=OUTCOME_STYLES[Outcome.BONUS])
    line.append("plain ", style=OUTCOME_STYLES[Outcome.PLAIN])
    line.append("unverified", style=Style(underline=True))
    return line


class Coloured:
    """A screen for terminals: a legend, then the text in the colours of its provenance.

    Where unverified text is void, the line that it is in is printed anew, as far as it holds.
    """

    def __init__(self, console: Console, *, with_legend: bool = True) -> None:
        self._console = console
        self._with_legend = with_legend
        self._shown: Transcript | None = None

    def show(self, event: GenerateEvent) -> None:
        """Print the event's part of the text at once."""
        if isinstance(event, Started) and self._with_legend:
            self._console.print(legend(event))
        if isinstance(event, Tokens):
            self._shown = self._shown or Transcript(first=event.position)
            self._print(event.tokens)
        if self._shown is not None:
            void = isinstance(event, Correction) and event.position < self._shown.position
            self._shown.note(event)
            if void:
                self._console.print("\nthe target goes on from here:", style="dim")
                self._print(last_line(self._shown.tokens))

    def _print(self, tokens: Iterable[TokenEvent]) -> None:
        for token in tokens:
            piece = Text(harmless(token.text), style=style_of(token))
            self._console.print(piece, end="", soft_wrap=True)
        self._console.file.flush()


def last_line(tokens: Sequence[TokenEvent]) -> list[TokenEvent]:
    """The tokens behind the last line break, the one with it cut."""
    for at in range(len(tokens) - 1, -1, -1):
        _, newline, rest = tokens[at].text.rpartition("\n")
        if newline:
            return [replace(tokens[at], text=rest), *tokens[at + 1 :]]
    return list(tokens)


class PlainText:
    """A screen for pipes and files: nothing but the text, as it comes.

    Unverified text is held back until a Correction says how much of it holds; what no verifier has
    seen by the end of the stream comes then.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file or sys.stdout
        self._gated = False
        self._held: list[str] = []
        self._printed = 0

    def show(self, event: GenerateEvent) -> None:
        """Write what is certain now, and flush it."""
        match event:
            case Started(exactness=exactness):
                self._gated = exactness is Exactness.GATED
            case Tokens(position=position, tokens=tokens):
                if not self._held:
                    self._printed = position
                self._held += [token.text for token in tokens]
                if self._gated or any(t.outcome is not Outcome.UNVERIFIED for t in tokens):
                    self._write(len(self._held))
            case Correction(position=position):
                self._write(max(0, position - self._printed))
                self._held.clear()
            case Summary():
                self._write(len(self._held))

    def _write(self, tokens: int) -> None:
        self._file.write("".join(self._held[:tokens]))
        self._file.flush()
        del self._held[:tokens]
        self._printed += tokens
