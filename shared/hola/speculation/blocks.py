"""A draft block on its way to the verifier, and what its verdict makes of it."""

from __future__ import annotations

from dataclasses import dataclass

from hola.errors import ProtocolViolation
from hola.speculation.pacing import RoundReport
from hola.types import DraftBlock, Outcome, Verdict

# Models pad their tables: a token id a little above the tokenizer's is legal and has no text.
PADDING_TOKENS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Draft tokens for output positions from `base` on.

    `tiers` are the proposing tiers as indices into Started.tiers; the first `committed` tokens
    are output already (GATED). `asked` and `draft_ns` are what pacing wants to know.
    """

    base: int
    tokens: tuple[int, ...] = ()
    tiers: tuple[int, ...] = ()
    committed: int = 0
    asked: int = 0
    draft_ns: int = 0

    def message(self, round_number: int) -> DraftBlock:
        """The block as it is sent in one round."""
        return DraftBlock(
            round=round_number,
            base_position=self.base,
            tokens=self.tokens,
            committed_tokens=self.committed,
        )

    def report(self, verdict: Verdict, round_trip_ns: int) -> RoundReport:
        """What its verdict tells pacing."""
        return RoundReport(
            asked=self.asked,
            drafted=len(self.tokens),
            accepted=verdict.accepted,
            draft_ns=self.draft_ns,
            verify_ns=verdict.compute_ns,
            overhead_ns=max(0, round_trip_ns - verdict.compute_ns),
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token about to be committed, with its provenance."""

    token: int
    tier: int
    outcome: Outcome
    logprob: float | None = None


def candidates(block: Block, verdict: Verdict, target: int, vocab_size: int) -> list[Candidate]:
    """What a verdict makes output: accepted draft tokens, then the target's own token.

    `target` is the target's tier index. Raises ProtocolViolation when the verdict cannot answer
    this block, or has a token outside the vocabulary.
    """
    _check(block, verdict, vocab_size)
    logprobs = verdict.logprobs or (None,) * (verdict.accepted + 1)
    found = [
        Candidate(block.tokens[at], block.tiers[at], Outcome.ACCEPTED, logprobs[at])
        for at in range(block.committed, verdict.accepted)
    ]
    if verdict.token is not None:
        outcome, tier = Outcome.PLAIN, target
        if verdict.accepted < len(block.tokens):
            outcome, tier = Outcome.CORRECTED, block.tiers[verdict.accepted]
        elif block.tokens:
            outcome = Outcome.BONUS
        found.append(Candidate(verdict.token, tier, outcome, logprobs[verdict.accepted]))
    return found


def _check(block: Block, verdict: Verdict, vocab_size: int) -> None:
    tokens = verdict.accepted + (verdict.token is not None)
    if not block.committed <= verdict.accepted <= len(block.tokens):
        problem = f"{verdict.accepted} accepted of {len(block.tokens)} draft tokens"
    elif verdict.token is None and not verdict.finished:
        problem = "no token of the target's own, though the text goes on"
    elif verdict.token is not None and not 0 <= verdict.token < vocab_size + PADDING_TOKENS:
        problem = f"token id {verdict.token} is outside the vocabulary of {vocab_size}"
    elif verdict.token in block.tokens[verdict.accepted : verdict.accepted + 1]:
        problem = f"draft token {verdict.token} was rejected and is the target's own"
    elif len(verdict.logprobs) not in (0, tokens):
        problem = f"{len(verdict.logprobs)} log-probabilities for {tokens} tokens"
    elif not 0 <= verdict.agreed_tokens <= block.committed:
        problem = f"{verdict.agreed_tokens} agreed of {block.committed} committed tokens"
    else:
        return
    raise ProtocolViolation(f"verdict refused: {problem}", round=verdict.round)
