"""One session at the verifier: checks draft blocks against the target's own choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hola.ports import EngineSession
from hola.types import DraftBlock, SamplingParams, Verdict

PREFILL_CHUNK_TOKENS = 128


class VerifierSession:
    """A target's KV cache and the rules by which draft tokens are accepted.

    Use: `cached = session.rebase(prompt, committed)`, exhaust `prefill_steps()`, then `verify`
    blocks. Runs on the engine's worker thread; has no clock (the host fills in compute_ns and
    queue_ns of a verdict with dataclasses.replace).
    """

    def __init__(
        self,
        engine_session: EngineSession,
        sampling: SamplingParams,
        eos_token_ids: tuple[int, ...],
    ) -> None:
        raise NotImplementedError

    @property
    def rounds(self) -> int:
        """Blocks verified since the last rebase."""
        raise NotImplementedError

    @property
    def output(self) -> tuple[int, ...]:
        """Output tokens committed so far, as far as this session knows."""
        raise NotImplementedError

    @property
    def cached_tokens(self) -> int:
        """Tokens in the KV cache."""
        raise NotImplementedError

    def rebase(
        self,
        prompt: Sequence[int],
        committed: Sequence[int] = (),
        *,
        sampling: SamplingParams | None = None,
    ) -> int:
        """Start (over) at prompt + committed; returns how many of its tokens are in the cache.

        Called for every Open: on a new session, and when a drafter comes back with the session's
        id. The cache keeps the common prefix; rounds count from 1 again. Raises EmptyPrompt,
        PromptTooLong when prompt + committed leave no room for a token.
        """
        raise NotImplementedError

    def prefill_steps(self) -> Iterator[None]:
        """Feed what rebase left over, one chunk of PREFILL_CHUNK_TOKENS per step.

        The host may run other sessions between steps. Raises EngineFailure.
        """
        raise NotImplementedError

    def verify(self, block: DraftBlock) -> Verdict:
        """Score a block in one forward pass.

        Accepts draft tokens while they equal the target's own choice, then adds that choice;
        an accepted end-of-text or stop token ends the text (`token` None). The first
        `committed_tokens` are scored (agreed_tokens), never rejected. The same block again gets
        the same verdict. After EngineFailure the session stands where it stood before the block.
        Raises ProtocolViolation for a wrong round or base_position, a block longer than 64 or
        past the context, a token outside the vocabulary, or anything after the end.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Free the KV cache. Idempotent."""
        raise NotImplementedError
