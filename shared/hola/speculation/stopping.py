"""Tokens to text, one at a time: holds back open characters and possible stop strings."""

from __future__ import annotations

from copy import copy

from hola.ports import Tokenizer

_OPEN_CHARACTER = "\ufffd"


class TextStream:
    """Incremental detokenizer of one output; a pure function of the tokens pushed so far.

    A token may end in the middle of a UTF-8 character, and a stop string in the middle of a token;
    both are held back until they are settled, so that joining what was returned gives the text.
    """

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        # Some tokenizers decode a token differently at the start of a text, so the tokens of the
        # last finished piece stay in the window as context.
        self._window: list[int] = []
        self._context_tokens = 0
        self._taken_chars = 0
        self._held = ""
        self._stopped = False

    def copy(self) -> TextStream:
        """Another stream in the same state."""
        twin = copy(self)
        twin._window = list(self._window)
        return twin

    @property
    def stopped(self) -> bool:
        """Whether a stop string has appeared; nothing may be pushed any more."""
        return self._stopped

    def push(self, token: int) -> str:
        """The text that `token` completes and that cannot belong to a stop string."""
        text = self._held + self._decode(token)
        start = min((at for stop in self._stop if (at := text.find(stop)) >= 0), default=-1)
        if start >= 0:
            self._stopped = True
            self._held = ""
            return text[:start]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        cut = len(text) - keep
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """At the end of the output: the text held back so far; empty after a stop string."""
        if self._stopped:
            return ""
        text = self._held + self._tokenizer.decode(self._window)[self._taken_chars :]
        self._held = ""
        self._taken_chars = len(self._tokenizer.decode(self._window))
        return text

    def _decode(self, token: int) -> str:
        """The characters that `token` completes."""
        self._window.append(token)
        text = self._tokenizer.decode(self._window)
        complete = text.rstrip(_OPEN_CHARACTER)
        fresh = complete[self._taken_chars :]
        self._taken_chars = max(self._taken_chars, len(complete))
        if len(complete) == len(text):
            self._window = self._window[self._context_tokens :]
            self._context_tokens = len(self._window)
            self._taken_chars = len(self._tokenizer.decode(self._window))
        return fresh


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop` without being all of it."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
