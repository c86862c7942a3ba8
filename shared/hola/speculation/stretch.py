"""Text that a draft tier wrote without the target, and what the target's own tokens make of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from hola.speculation.blocks import Block, Candidate
from hola.speculation.output import Output
from hola.types import MAX_BLOCK_TOKENS, FinishReason, Outcome, TokenEvent, Tokens


class Stretch:
    """Tokens that were emitted unverified, on a copy of the output that goes its own way.

    `waiting` are those that the target has not looked at yet; the first one stands where the
    target's own output ends. `confirmed` is how many it has found right before them.
    """

    def __init__(self, output: Output, emitted: Sequence[TokenEvent] = ()) -> None:
        """`emitted`: unverified tokens behind `output` that an earlier drafter has emitted."""
        self._output = output.fork()
        self._output.restore(emitted)
        self.waiting = deque(emitted)
        self.confirmed = 0

    @property
    def sequence(self) -> list[int]:
        """Prompt and output, unverified tokens included; proposers read it."""
        return self._output.sequence

    @property
    def room(self) -> int:
        """Tokens that may still be written."""
        return self._output.room

    @property
    def finish(self) -> FinishReason | None:
        """Why the text is complete, were the target to agree; None while it is not."""
        return self._output.finish

    def limit(self, context_length: int, eos_token_ids: Sequence[int]) -> None:
        """What ends the text; must be called before `write`."""
        self._output.limit(context_length, eos_token_ids)

    def write(self, tokens: Iterable[int], tiers: Iterable[int]) -> Tokens | None:
        """Append tokens of the tiers up to the one that ends the text; what to emit, if any."""
        if self.finish is not None:
            return None
        position = self._output.position
        events = self._output.commit(
            Candidate(token, tier, Outcome.UNVERIFIED)
            for token, tier in zip(tokens, tiers, strict=True)
        )
        self.waiting.extend(events)
        return Tokens(position=position, tokens=events) if events else None

    def block(self, base: int, room: int) -> Block:
        """The next unverified tokens as a draft block; `room` tokens fit into the output.

        The verdict brings one token more, so the last place is never drafted.
        """
        told = tuple(islice(self.waiting, max(0, min(MAX_BLOCK_TOKENS, room - 1))))
        return Block(
            base=base,
            tokens=tuple(event.token for event in told),
            tiers=tuple(event.tier for event in told),
            asked=len(told),
        )

    def credit(self, found: Sequence[Candidate]) -> list[Candidate]:
        """A verdict's tokens with the provenance that the unverified ones give them.

        The target's own token behind an accepted block may be the next one that waits.
        """
        return [
            replace(
                own,
                tier=told.tier,
                outcome=Outcome.ACCEPTED if told.token == own.token else Outcome.CORRECTED,
            )
            for own, told in zip(found, self.waiting, strict=False)
        ] + list(found[len(self.waiting) :])

    def judged_tiers(self, block: Block, found: int) -> tuple[int, ...]:
        """Tiers of the tokens that a verdict with `found` tokens has judged."""
        return tuple(event.tier for event in islice(self.waiting, max(len(block.tokens), found)))

    def settle(self, events: Sequence[TokenEvent], *, complete: bool) -> int | None:
        """Compare the target's tokens with those that wait; they are its own as far as equal.

        Returns how many of `events` the client has already, if that is the end of the stretch: the
        next differs (in token, text or log-probability), or nothing waits any more, or the output
        is `complete`. None when more has to be verified. Mutates `waiting`.
        """
        for at, event in enumerate(events):
            if not self.waiting or not _same(self.waiting.popleft(), event):
                return at
        self.confirmed += len(events)
        return len(events) if complete or not self.waiting else None


def _same(told: TokenEvent, own: TokenEvent) -> bool:
    return (told.token, told.text, told.logprob) == (own.token, own.text, own.logprob)
