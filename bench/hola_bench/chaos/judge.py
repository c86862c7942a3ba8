"""Compares what a client saw with what the target alone writes, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hola.types import (
    Correction,
    Exactness,
    Failure,
    FinishReason,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)
from hola_bench.chaos.transcript import Connection, Transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A case's undisturbed output: token ids and their text."""

    ids: tuple[int, ...]
    text: str


@dataclass(slots=True, kw_only=True)
class Findings:
    """What is wrong with a stream; nothing, if all is well."""

    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """True when there is nothing to report."""
        return not (self.wrong or self.lost or self.duplicated or self.unfinished)

    def told(self) -> list[str]:
        """All findings in words."""
        kinds = ("wrong", "lost", "duplicated", "unfinished")
        return [f"{kind}: {what}" for kind in kinds for what in getattr(self, kind)]


def judge(transcript: Transcript, expected: Expected) -> Findings:
    """Check every connection of a stream, then the whole of it."""
    return _Judge(transcript, expected).findings()


class _Judge:
    def __init__(self, transcript: Transcript, expected: Expected) -> None:
        self._transcript = transcript
        self._expected = expected
        self._found = Findings()
        self._output: list[TokenEvent] = []
        self._end: Summary | Failure | None = None

    def findings(self) -> Findings:
        for connection in self._transcript.connections:
            self._connection(connection)
        self._check_end()
        self._check_output()
        return self._found

    def _connection(self, connection: Connection) -> None:
        """Positions count up without a gap or a repetition, and nothing follows the end."""
        cursor, starts, over = connection.position, 0, False
        if cursor > len(self._output):
            self._found.lost.append(f"asked from {cursor}, had {len(self._output)}")
        for _, event in connection.events:
            if over:
                self._found.duplicated.append(f"{type(event).__name__} after the end")
            match event:
                case Started():
                    starts += 1
                case Tokens():
                    self._check_position(event.position, cursor)
                    self._take(event)
                    cursor = event.position + len(event.tokens)
                case Correction(position=position):
                    cursor = position
                    del self._output[position:]
                case Summary() | Failure():
                    over = True
                    self._end = event
        if starts > 1:
            self._found.duplicated.append(f"{starts} Started events on one connection")

    def _check_position(self, got: int, cursor: int) -> None:
        if got > cursor:
            self._found.lost.append(f"tokens {cursor}..{got} were left out")
        elif got < cursor:
            self._found.duplicated.append(f"tokens {got}..{cursor} came again")

    def _take(self, event: Tokens) -> None:
        for at, token in enumerate(event.tokens, event.position):
            if at < len(self._output):
                known = self._output[at]
                if (known.token, known.text) != (token.token, token.text):
                    self._found.wrong.append(f"token {at} was {known}, came again as {token}")
                    self._output[at] = token
            elif at == len(self._output):
                self._output.append(token)

    def _check_end(self) -> None:
        if self._transcript.trouble:
            self._found.unfinished.append(self._transcript.trouble)
        elif self._end is None:
            self._found.unfinished.append("the stream has no end")
        elif isinstance(self._end, Failure):
            self._found.unfinished.append(f"{self._end.reason}: {self._end.message}")
        elif self._end.completion_tokens != len(self._output) and not self._is_cancelled:
            self._found.lost.append(
                f"the summary counts {self._end.completion_tokens} tokens, {len(self._output)} came"
            )

    @property
    def _is_cancelled(self) -> bool:
        return (
            isinstance(self._end, Summary)
            and self._end.finish_reason is FinishReason.CANCELLED
            and self._transcript.plan.cancels
        )

    @property
    def _is_unverified(self) -> bool:
        """The request asked to go on without a verifier, and none came back before its end."""
        return (
            isinstance(self._end, Summary)
            and self._end.exactness is Exactness.UNVERIFIED
            and self._transcript.plan.local
        )

    def _check_output(self) -> None:
        if self._is_unverified:
            return
        ids, wanted = [token.token for token in self._output], self._expected.ids
        at = first_difference(ids, wanted)
        if at is not None:
            self._found.wrong.append(f"token {at} is {ids[at:][:3]}, expected {wanted[at:][:3]}")
            return
        if self._is_cancelled or not isinstance(self._end, Summary):
            return
        if self._end.finish_reason is FinishReason.CANCELLED:
            self._found.unfinished.append("cancelled by nobody")
        if len(ids) < len(wanted):
            self._found.lost.append(f"{len(ids)} of {len(wanted)} tokens")
        text = "".join(token.text for token in self._output)
        if len(ids) == len(wanted) and text != self._expected.text:
            self._found.wrong.append(f"the text is {text!r}, expected {self._expected.text!r}")


def first_difference(got: Sequence[int], wanted: Sequence[int]) -> int | None:
    """Where `got` leaves `wanted`; None while it is a beginning of it."""
    for at, token in enumerate(got):
        if at >= len(wanted) or wanted[at] != token:
            return at
    return None
