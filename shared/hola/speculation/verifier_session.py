"""One session at the verifier: checks draft blocks against the target's own choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hola.errors import EmptyPrompt, InvalidRequest, PromptTooLong, ProtocolViolation
from hola.ports import EngineSession, Logits
from hola.speculation.prefix import common_prefix
from hola.speculation.sampling import choose, logprob
from hola.types import MAX_BLOCK_TOKENS, DraftBlock, SamplingParams, Verdict

PREFILL_CHUNK_TOKENS = 128


class VerifierSession:
    """A target's KV cache and the rules by which draft tokens are accepted.

    Use: `cached = session.rebase(prompt, committed)`, exhaust `prefill_steps()`, then `verify`
    blocks. Runs on the engine's worker thread; has no clock (the host fills in compute_ns and
    queue_ns of a verdict with dataclasses.replace). With `vocab_size`, token ids are checked.

    The last token of the sequence is never in the cache before a block: it is fed with the block,
    and its row of logits chooses the first new token.
    """

    def __init__(
        self,
        engine_session: EngineSession,
        sampling: SamplingParams,
        eos_token_ids: tuple[int, ...],
        *,
        vocab_size: int | None = None,
    ) -> None:
        self._engine = engine_session
        self._sampling = sampling
        self._eos_token_ids = eos_token_ids
        self._ends = frozenset((*eos_token_ids, *sampling.stop_token_ids))
        self._vocab_size = vocab_size
        self._sequence: list[int] = []
        self._prompt_tokens = 0
        self._last: tuple[DraftBlock, Verdict] | None = None

    @property
    def rounds(self) -> int:
        """Blocks verified since the last rebase."""
        return 0 if self._last is None else self._last[0].round

    @property
    def output(self) -> tuple[int, ...]:
        """Output tokens committed so far, as far as this session knows."""
        return tuple(self._sequence[self._prompt_tokens :])

    @property
    def cached_tokens(self) -> int:
        """Tokens in the KV cache."""
        return self._engine.length

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
        PromptTooLong when there is no room for a token after the prompt, InvalidRequest for a
        token outside the vocabulary.
        """
        sequence = [*prompt, *committed]
        self._check_sequence(len(prompt), sequence)
        cached = min(common_prefix(self._sequence, sequence), self._engine.length)
        self._engine.truncate(min(cached, len(sequence) - 1))
        self._sequence = sequence
        self._prompt_tokens = len(prompt)
        self._last = None
        if sampling is not None:
            self._sampling = sampling
            self._ends = frozenset((*self._eos_token_ids, *sampling.stop_token_ids))
        return self._engine.length

    def prefill_steps(self) -> Iterator[None]:
        """Feed what rebase left over, one chunk of PREFILL_CHUNK_TOKENS per step.

        The host may run other sessions between steps. Raises EngineFailure.
        """
        last = len(self._sequence) - 1
        while (start := self._engine.length) < last:
            self._engine.prefill(self._sequence[start : min(start + PREFILL_CHUNK_TOKENS, last)])
            yield

    def verify(self, block: DraftBlock) -> Verdict:
        """Score a block in one forward pass.

        Accepts draft tokens while they equal the target's own choice, then adds that choice;
        an accepted end-of-text or stop token ends the text (`token` None). The first
        `committed_tokens` are scored (agreed_tokens), never rejected. The same block again gets
        the same verdict. After EngineFailure the session stands where it stood before the block.
        Raises ProtocolViolation for a wrong round or base_position, a block longer than 64 or
        past the context, a token outside the vocabulary, or anything after the end.
        """
        if self._last is not None and self._last[0] == block:
            return self._last[1]
        self._check_block(block)
        start = self._engine.length
        pending = self._sequence[start:]
        try:
            logits = self._engine.forward([*pending, *block.tokens])
            verdict = self._judge(block, logits[len(pending) - 1 :])
        except Exception:
            self._engine.truncate(start)
            raise
        self._sequence.extend(block.tokens[: verdict.accepted])
        self._engine.truncate(len(self._sequence))
        if verdict.token is not None:
            self._sequence.append(verdict.token)
        self._last = (block, verdict)
        return verdict

    def close(self) -> None:
        """Free the KV cache. Idempotent."""
        self._engine.close()

    def _judge(self, block: DraftBlock, rows: Logits) -> Verdict:
        """The verdict; rows[i], shape (len(block.tokens) + 1, vocab), chooses the i-th token."""
        position = len(self._sequence)
        accepted, agreed = 0, 0
        token: int | None = None
        for draft in block.tokens:
            own = choose(rows[accepted], self._sampling, position + accepted)
            if accepted < block.committed_tokens:
                agreed += own == draft
            elif own != draft:
                token = own
                break
            accepted += 1
            if draft in self._ends:
                break
        else:
            token = choose(rows[accepted], self._sampling, position + accepted)
        chosen = block.tokens[:accepted] if token is None else (*block.tokens[:accepted], token)
        return Verdict(
            round=block.round,
            accepted=accepted,
            token=token,
            finished=chosen[-1] in self._ends,
            logprobs=self._logprobs(rows, chosen),
            agreed_tokens=agreed,
        )

    def _logprobs(self, rows: Logits, chosen: Sequence[int]) -> tuple[float, ...]:
        if not self._sampling.logprobs:
            return ()
        return tuple(logprob(rows[at], token) for at, token in enumerate(chosen))

    def _check_sequence(self, prompt_tokens: int, sequence: list[int]) -> None:
        if prompt_tokens == 0:
            raise EmptyPrompt("the prompt has no token")
        room = self._engine.capacity
        if prompt_tokens >= room or len(sequence) > room:
            raise PromptTooLong(
                f"a prompt of {prompt_tokens} tokens and {len(sequence) - prompt_tokens} of output"
                f" leave no room in a context of {room}",
                prompt_tokens=prompt_tokens,
                context_length=room,
            )
        stray = self._stray_token(sequence)
        if stray is not None:
            raise InvalidRequest(
                f"token id {stray} is outside the vocabulary of {self._vocab_size}",
                field="prompt_token_ids",
                value=stray,
            )

    def _check_block(self, block: DraftBlock) -> None:
        produced = len(self._sequence) - self._prompt_tokens
        if not self._sequence:
            problem = "nothing has been opened"
        elif self._last is not None and self._last[1].finished:
            problem = "the text has ended"
        elif block.round != self.rounds + 1:
            problem = f"round {block.round} after round {self.rounds}"
        elif block.base_position != produced:
            problem = f"base_position {block.base_position}, but {produced} tokens are committed"
        elif len(block.tokens) > MAX_BLOCK_TOKENS:
            problem = f"{len(block.tokens)} draft tokens, at most {MAX_BLOCK_TOKENS}"
        elif not 0 <= block.committed_tokens <= len(block.tokens):
            problem = f"committed_tokens {block.committed_tokens} of {len(block.tokens)}"
        elif len(self._sequence) + len(block.tokens) > self._engine.capacity:
            problem = f"a block past the context of {self._engine.capacity} tokens"
        elif (stray := self._stray_token(block.tokens)) is not None:
            problem = f"token id {stray} is outside the vocabulary of {self._vocab_size}"
        else:
            return
        raise ProtocolViolation(f"draft block refused: {problem}", round=block.round)

    def _stray_token(self, tokens: Sequence[int]) -> int | None:
        """A token id outside the vocabulary, if there is one and the vocabulary is known."""
        if self._vocab_size is None or not tokens:
            return None
        lowest, highest = min(tokens), max(tokens)
        if lowest < 0:
            return lowest
        return highest if highest >= self._vocab_size else None
