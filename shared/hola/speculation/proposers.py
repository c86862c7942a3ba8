"""The tier ladder: n-gram lookup, and engines that check the tier below and add their own token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hola.errors import EngineFailure, InvalidRequest
from hola.ports import EngineSession, Logits, Proposal, Proposer
from hola.speculation.pacing import EntropyGate
from hola.speculation.prefix import common_prefix
from hola.speculation.sampling import choose, entropy
from hola.types import SamplingParams

LOOKUP = "lookup"

# Odd, so that the pass that checks them has an even width. Lookup guesses for free, so an engine
# checks more of them at once.
_GUESSES_FROM_LOOKUP = 7
_GUESSES_FROM_ENGINE = 3
_LONGEST_FEED_TOKENS = 16
_NOTHING = Proposal()
_ANY_ENTROPY = EntropyGate(math.inf)


class Writer(Protocol):
    """A tier that can write a text by itself, where no target can be asked."""

    def write(self, prefix: Sequence[int], k: int) -> Proposal:
        """Up to k tokens after prefix, the tier's own choices; none where it cannot go on.

        As with `Proposer.propose`, any prefix may follow any other. Raises EngineFailure.
        """
        ...


class Lookup:
    """Proposes what followed the latest occurrence of the longest n-gram that ends the prefix.

    The index maps each n-gram to the position after its latest occurrence, and each position
    remembers what it replaced there, so that rolling back is undoing. `texts` are more to copy
    from, most wanted first, where the prefix itself has no n-gram of that size.
    """

    def __init__(
        self, texts: Sequence[Sequence[int]] = (), *, longest: int = 4, shortest: int = 2
    ) -> None:
        self._sizes = range(longest, shortest - 1, -1)
        self._texts = [tuple(text) for text in texts]
        self._in_texts = _places(self._texts, self._sizes)
        self._tokens: list[int] = []
        self._follows: dict[tuple[int, ...], int] = {}
        self._replaced: list[list[int | None]] = []

    @property
    def tiers(self) -> tuple[str, ...]:
        """("lookup",)"""
        return (LOOKUP,)

    def propose(self, prefix: Sequence[int], k: int) -> Proposal:
        """As `Proposer.propose`; entropies are infinite, since no engine looked."""
        sequence = list(prefix)
        holds = common_prefix(self._tokens, sequence)
        while len(self._tokens) > holds:
            self._forget_last()
        for token in sequence[holds:]:
            self._append(token)
        for size in self._sizes if k > 0 else ():
            gram = tuple(sequence[-size:])
            start = self._follows.get(gram)
            if start is not None:
                return self._continuation(start, k)
            if gram in self._in_texts:
                text, start = self._in_texts[gram]
                return _looked_up(self._texts[text][start : start + k])
        return _NOTHING

    def close(self) -> None:
        """Forget the index and the texts. Idempotent."""
        self._texts.clear()
        self._in_texts.clear()
        self._tokens.clear()
        self._follows.clear()
        self._replaced.clear()

    def _append(self, token: int) -> None:
        at = len(self._tokens)
        replaced: list[int | None] = []
        for size in self._sizes:
            if size <= at:
                gram = tuple(self._tokens[at - size :])
                replaced.append(self._follows.get(gram))
                self._follows[gram] = at
        self._tokens.append(token)
        self._replaced.append(replaced)

    def _forget_last(self) -> None:
        self._tokens.pop()
        at = len(self._tokens)
        sizes = (size for size in self._sizes if size <= at)
        for size, earlier in zip(sizes, self._replaced.pop(), strict=True):
            gram = tuple(self._tokens[at - size :])
            if earlier is None:
                del self._follows[gram]
            else:
                self._follows[gram] = earlier

    def _continuation(self, start: int, k: int) -> Proposal:
        """The k tokens from `start` on; past the end, the copy goes on copying itself."""
        tokens = self._tokens[start : start + k]
        period = len(self._tokens) - start
        while len(tokens) < k:
            tokens.append(tokens[-period])
        return _looked_up(tuple(tokens))


def _places(
    texts: Sequence[tuple[int, ...]], sizes: Sequence[int]
) -> dict[tuple[int, ...], tuple[int, int]]:
    """Where each n-gram that something follows first ends: the text, and the position after it."""
    places: dict[tuple[int, ...], tuple[int, int]] = {}
    for index, text in enumerate(texts):
        for size in sizes:
            for at in range(size, len(text)):
                places.setdefault(text[at - size : at], (index, at))
    return places


def _looked_up(tokens: tuple[int, ...]) -> Proposal:
    size = len(tokens)
    return Proposal(tokens=tokens, tiers=(LOOKUP,) * size, entropies=(math.inf,) * size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One engine of a ladder: its name, its own KV cache, and the ids that end the text."""

    name: str
    session: EngineSession
    eos_token_ids: tuple[int, ...] = ()


class Cascade:
    """An engine that checks what `lower` proposes and adds its own token, until it has k.

    Every token it proposes is its own choice under the shared noise; `lower` only saves it
    passes, `guesses` at a time. Drafting ends before a token of entropy `entropy_threshold` nats
    or more, after an end-of-text or stop token, and at the engine's capacity.
    """

    def __init__(
        self,
        lower: Proposer | None,
        tier: Tier,
        params: SamplingParams,
        *,
        entropy_threshold: float = math.inf,
        guesses: int = _GUESSES_FROM_ENGINE,
    ) -> None:
        self._lower = lower
        self._name = tier.name
        self._engine = tier.session
        self._ends = frozenset((*tier.eos_token_ids, *params.stop_token_ids))
        self._params = params
        self._gate = EntropyGate(entropy_threshold)
        self._guesses = guesses
        # The engine's cache holds the first `engine.length` of these.
        self._sequence: list[int] = []

    @property
    def tiers(self) -> tuple[str, ...]:
        """The lower tiers' names, then this engine's."""
        below = () if self._lower is None else self._lower.tiers
        return (*below, self._name)

    def propose(self, prefix: Sequence[int], k: int) -> Proposal:
        """As `Proposer.propose`; k = 0 only prefills. Raises EngineFailure."""
        return self._run(prefix, k, self._gate)

    def write(self, prefix: Sequence[int], k: int) -> Proposal:
        """As `Writer.write`: like propose, but no uncertainty ends it."""
        return self._run(prefix, k, _ANY_ENTROPY)

    def _run(self, prefix: Sequence[int], k: int, gate: EntropyGate) -> Proposal:
        sequence = list(prefix)
        if len(sequence) > self._engine.capacity:
            return _NOTHING
        self._catch_up(sequence)
        if k <= 0:
            if self._lower is not None:
                self._lower.propose(sequence, 0)
            return _NOTHING
        draft = _Draft(gate)
        while len(draft.tokens) < k and self._extend(draft, k - len(draft.tokens)):
            pass
        return Proposal(
            tokens=tuple(draft.tokens), tiers=tuple(draft.tiers), entropies=tuple(draft.entropies)
        )

    def close(self) -> None:
        """Free this engine's cache and the lower tiers'. Idempotent."""
        self._engine.close()
        self._sequence = []
        if self._lower is not None:
            self._lower.close()

    def _catch_up(self, sequence: list[int]) -> None:
        """Roll the cache back to what holds for `sequence`, and prefill a long rest.

        Leaves the last token to be fed with the guesses.
        """
        holds = min(common_prefix(self._sequence, sequence), self._engine.length)
        start = min(holds, len(sequence) - 1)
        self._engine.truncate(start)
        self._sequence = sequence
        if len(sequence) - start > _LONGEST_FEED_TOKENS:
            self._engine.prefill(sequence[start:-1])

    def _extend(self, draft: _Draft, wanted: int) -> bool:
        """Add 1 to `wanted` tokens with one forward pass; False when drafting has to stop."""
        sequence = self._sequence
        room = self._engine.capacity - len(sequence)
        if room < 0:
            return False
        guessed = min(wanted - 1, self._guesses, room)
        guess = _NOTHING
        if self._lower is not None and guessed > 0:
            guess = self._lower.propose(sequence, guessed)
        fed = self._engine.length
        checked = len(sequence)
        try:
            logits = self._engine.forward([*sequence[fed:], *guess.tokens])
            go_on = self._take(draft, guess, logits[checked - fed - 1 :])
        except EngineFailure:
            self._engine.truncate(fed)
            raise
        # Fed and right: the guesses that were taken. The last token taken may not be one.
        right = checked + common_prefix(sequence[checked:], list(guess.tokens))
        self._engine.truncate(right)
        return go_on

    def _take(self, draft: _Draft, guess: Proposal, rows: Logits) -> bool:
        """Take own tokens while they equal the guesses, and one more; rows[i] chooses the i-th."""
        for at in range(len(guess.tokens) + 1):
            row = rows[at]
            uncertainty = entropy(row)
            if not draft.gate.confident(uncertainty):
                return False
            token = choose(row, self._params, len(self._sequence))
            guessed_right = at < len(guess.tokens) and guess.tokens[at] == token
            draft.tokens.append(token)
            draft.tiers.append(guess.tiers[at] if guessed_right else self._name)
            draft.entropies.append(uncertainty)
            self._sequence.append(token)
            if token in self._ends:
                return False
            if not guessed_right:
                return True
        return True


@dataclass(slots=True)
class _Draft:
    """A proposal in the making; `gate` says which of its tokens is the last."""

    gate: EntropyGate
    tokens: list[int] = field(default_factory=list)
    tiers: list[str] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)


def select_tiers(available: Sequence[str], ladder: Sequence[str] | None) -> tuple[str, ...]:
    """The tiers a request uses, in the order of `available`: those named, or all for None.

    `available` may include LOOKUP. Raises InvalidRequest naming an unknown tier.
    """
    if ladder is None:
        return tuple(available)
    unknown = [name for name in ladder if name not in available]
    if unknown:
        raise InvalidRequest(
            f"ladder names tier {unknown[0]!r}; known: {', '.join(available) or 'none'}",
            field="ladder",
            value=unknown[0],
            known=", ".join(available),
        )
    return tuple(name for name in available if name in ladder)


def build_ladder(
    tiers: Sequence[Tier],
    params: SamplingParams,
    *,
    lookup: bool = True,
    lookup_texts: Sequence[Sequence[int]] = (),
    entropy_threshold: float = math.inf,
) -> Proposer | None:
    """Cascade(Cascade(Lookup(), tiers[0]), tiers[1])...; None when there is no tier at all.

    The ladder owns the tiers' engine sessions from now on (`close` frees them).
    """
    ladder: Proposer | None = Lookup(lookup_texts) if lookup else None
    for tier in tiers:
        ladder = Cascade(
            ladder,
            tier,
            params,
            entropy_threshold=entropy_threshold,
            guesses=_GUESSES_FROM_LOOKUP if isinstance(ladder, Lookup) else _GUESSES_FROM_ENGINE,
        )
    return ladder
