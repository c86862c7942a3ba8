"""Tokens to text, one at a time: holds back open characters and possible stop strings."""

from __future__ import annotations

from hola.ports import Tokenizer


class TextStream:
    """Incremental detokenizer of one output; a pure function of the tokens pushed so far."""

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...]) -> None:
        raise NotImplementedError

    @property
    def stopped(self) -> bool:
        """Whether a stop string has appeared; nothing may be pushed any more."""
        raise NotImplementedError

    def push(self, token: int) -> str:
        """The text that `token` completes and that cannot belong to a stop string."""
        raise NotImplementedError

    def flush(self) -> str:
        """At the end of the output: the text held back so far."""
        raise NotImplementedError
