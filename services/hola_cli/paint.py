"""Shows a stream on a terminal, each piece of text in the colour of where it came from."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console
from rich.style import Style
from rich.text import Text

from hola.types import GenerateEvent, Outcome, Started, TokenEvent, Tokens

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
    line.append("plain", style=OUTCOME_STYLES[Outcome.PLAIN])
    return line


class Coloured:
    """A screen for terminals: a legend, then the text in the colours of its provenance."""

    def __init__(self, console: Console, *, with_legend: bool = True) -> None:
        self._console = console
        self._with_legend = with_legend

    def show(self, event: GenerateEvent) -> None:
        """Print the event's part of the text at once."""
        if isinstance(event, Started) and self._with_legend:
            self._console.print(legend(event))
        elif isinstance(event, Tokens):
            for token in event.tokens:
                piece = Text(harmless(token.text), style=style_of(token))
                self._console.print(piece, end="", soft_wrap=True)
            self._console.file.flush()


class PlainText:
    """A screen for pipes and files: nothing but the text, as it comes."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file or sys.stdout

    def show(self, event: GenerateEvent) -> None:
        """Write the event's part of the text and flush it."""
        if isinstance(event, Tokens):
            self._file.write("".join(token.text for token in event.tokens))
            self._file.flush()
