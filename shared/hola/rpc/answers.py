"""Whether an answer can be one to its question: what a broken verifier says is found here."""

from __future__ import annotations

from hola.errors import BadAnswer
from hola.types import (
    CancelSession,
    Done,
    DraftBlock,
    Open,
    Opened,
    Verdict,
    VerifierRequest,
    VerifierResponse,
)


def check_answer(question: VerifierRequest | None, answer: VerifierResponse) -> None:
    """Raises BadAnswer when `answer` cannot answer `question` (None: nothing was asked)."""
    match question, answer:
        case DraftBlock(), Verdict():
            _check_verdict(question, answer)
        case (Open(), Opened()) | (CancelSession(), Done()):
            pass
        case _:
            asked = "nothing" if question is None else type(question).__name__
            raise BadAnswer(f"the verifier answered {asked} with {type(answer).__name__}")


def _check_verdict(block: DraftBlock, verdict: Verdict) -> None:
    tokens = verdict.accepted + (verdict.token is not None)
    if verdict.round != block.round:
        problem = f"it is for round {verdict.round}, not {block.round}"
    elif not block.committed_tokens <= verdict.accepted <= len(block.tokens):
        problem = f"{verdict.accepted} accepted of {len(block.tokens)} draft tokens"
    elif verdict.token is None and not (verdict.finished and tokens):
        problem = "no token of the target's own, though the text goes on"
    elif len(verdict.logprobs) not in (0, tokens):
        problem = f"{len(verdict.logprobs)} log-probabilities for {tokens} tokens"
    elif verdict.agreed_tokens > block.committed_tokens:
        problem = f"{verdict.agreed_tokens} agreed of {block.committed_tokens} committed tokens"
    else:
        return
    raise BadAnswer(f"the verifier sent an impossible verdict: {problem}", round=block.round)
