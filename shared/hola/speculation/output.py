"""The output of one request as it grows: token ids, text, and the reason it is complete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy

from hola.ports import Tokenizer
from hola.speculation.blocks import Candidate
from hola.speculation.stopping import TextStream
from hola.types import FinishReason, SamplingParams, TokenEvent


class Output:
    """Prompt and committed tokens in one sequence, which proposers read.

    `sequence` only ever grows, and only here. `limit` must be called before tokens are committed.
    """

    def __init__(
        self, prompt: Sequence[int], sampling: SamplingParams, tokenizer: Tokenizer
    ) -> None:
        self.sequence = list(prompt)
        self._prompt_tokens = len(prompt)
        self._sampling = sampling
        self._text = TextStream(tokenizer, sampling.stop)
        self._vocab_size = tokenizer.vocab_size
        self._ends: frozenset[int] = frozenset()
        self._longest = 0
        self._finish: FinishReason | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        """Output token ids."""
        return tuple(self.sequence[self._prompt_tokens :])

    @property
    def position(self) -> int:
        """Output position of the next token."""
        return len(self.sequence) - self._prompt_tokens

    @property
    def room(self) -> int:
        """Tokens that may still be committed."""
        return self._longest - len(self.sequence)

    @property
    def finish(self) -> FinishReason | None:
        """Why the output is complete; None while it is not."""
        return self._finish

    def fork(self) -> Output:
        """A copy that goes its own way from here on, text held back included."""
        twin = copy(self)
        twin.sequence = list(self.sequence)
        twin._text = self._text.copy()
        return twin

    def restore(self, events: Sequence[TokenEvent]) -> None:
        """Take over tokens that another drafter committed; their text was emitted by it."""
        for event in events:
            self.sequence.append(event.token)
            if not self._text.stopped and event.token < self._vocab_size:
                self._text.push(event.token)

    def limit(self, context_length: int, eos_token_ids: Sequence[int]) -> None:
        """Learn the target's limits; what was restored may turn out to be complete."""
        self._ends = frozenset((*eos_token_ids, *self._sampling.stop_token_ids))
        self._longest = min(self._prompt_tokens + self._sampling.max_tokens, context_length)
        if self._finish is None and self.position > 0:
            self._finish = self._reason()

    def commit(self, candidates: Iterable[Candidate]) -> tuple[TokenEvent, ...]:
        """Append tokens up to the one that completes the output, if there is one."""
        events = []
        for candidate in candidates:
            self.sequence.append(candidate.token)
            has_text = candidate.token not in self._ends and candidate.token < self._vocab_size
            text = self._text.push(candidate.token) if has_text else ""
            self._finish = self._reason()
            if self._finish is not None:
                text += self._text.flush()
            events.append(
                TokenEvent(
                    token=candidate.token,
                    text=text,
                    tier=candidate.tier,
                    outcome=candidate.outcome,
                    logprob=candidate.logprob,
                )
            )
            if self._finish is not None:
                break
        return tuple(events)

    def _reason(self) -> FinishReason | None:
        if self.sequence[-1] in self._ends:
            return FinishReason.STOP_TOKEN
        if self._text.stopped:
            return FinishReason.STOP_STRING
        return FinishReason.LENGTH if self.room <= 0 else None
