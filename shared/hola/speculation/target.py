"""What a drafter session knows of its target: the numerics so far, and what ends the text."""

from __future__ import annotations

from dataclasses import dataclass, field

from hola.errors import PromptTooLong
from hola.types import Exactness, GenerateJob, Open, Opened, Started


@dataclass(slots=True)
class Target:
    """`fingerprint` is that of the output so far, "" for none yet; once degraded, always degraded.

    `limits` are the longest sequence and the end tokens, None until a verifier has said them.
    """

    fingerprint: str
    degraded: bool
    limits: tuple[int, tuple[int, ...]] | None = field(default=None, init=False)

    @classmethod
    def before(cls, started: Started | None, fingerprint: str, has_output: bool) -> Target:
        """As a journal leaves it. Output of unknown numerics is degraded, whoever continues it."""
        degraded = started is not None and started.exactness is Exactness.DEGRADED
        fingerprint = fingerprint or ("" if started is None else started.fingerprint)
        return cls(fingerprint, degraded or (has_output and not fingerprint))

    def opening(
        self,
        job: GenerateJob,
        model: str,
        tokenizer_fingerprint: str,
        prompt: tuple[int, ...],
        committed: tuple[int, ...],
    ) -> Open:
        """The message that has a verifier go on behind `committed`."""
        return Open(
            session_id=job.request_id,
            model=model,
            tokenizer_fingerprint=tokenizer_fingerprint,
            prompt=prompt,
            committed=committed,
            sampling=job.sampling,
            required_fingerprint=self.fingerprint,
            allow_degraded=True,
            tenant=job.tenant,
        )

    def note(self, opened: Opened) -> None:
        """A verifier answered Open; another fingerprint than before degrades the stream."""
        moved = self.fingerprint not in ("", opened.fingerprint)
        self.degraded |= moved or opened.exactness is not Exactness.EXACT
        self.fingerprint = self.fingerprint or opened.fingerprint
        self.limits = opened.context_length, opened.eos_token_ids

    def limits_within(
        self, context_length: int, ends: tuple[int, ...]
    ) -> tuple[int, tuple[int, ...]]:
        """The limits for text without the target; `ends` only while its own are not known."""
        known, ends = self.limits or (context_length, ends)
        return min(known, context_length), ends


def check_room(prompt_tokens: int, context_length: int, model: str) -> None:
    """Raises PromptTooLong when the prompt leaves no room in the target's context."""
    if prompt_tokens >= context_length:
        raise PromptTooLong(
            f"the prompt has {prompt_tokens} tokens, the context of {model} is {context_length}",
            prompt_tokens=prompt_tokens,
            context_length=context_length,
        )
