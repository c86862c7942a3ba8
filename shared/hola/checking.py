"""The port through which a router asks the target about a drafted answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hola.types import DEFAULT_TENANT, MAX_BLOCK_TOKENS, VerifierInfo

MAX_CHECKED_TOKENS = MAX_BLOCK_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """A question's prompt and 1 to MAX_CHECKED_TOKENS tokens of an answer; as in verifier.proto."""

    model: str
    tokenizer_fingerprint: str
    prompt: tuple[int, ...]
    draft: tuple[int, ...]
    tenant: str = DEFAULT_TENANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The target's uncertainty about the draft, by name, and what the pass took (nanoseconds)."""

    signals: Mapping[str, float]
    compute_ns: int = 0
    queue_ns: int = 0
    prefill_ns_per_token: float = 0.0


class AnswerCheck(Protocol):
    """A verifier that can be asked about an answer: local, over gRPC, or one of a pool."""

    async def check(self, request: CheckRequest) -> Checked:
        """One pass over prompt and draft in the tenant's turn; nothing is kept.

        Raises UnknownModel, TokenizerMismatch, InvalidRequest (and kinds), MemoryBudgetExceeded,
        Overloaded, EngineFailure, SessionMoved (it drains), VerifierUnavailable.
        """
        ...

    async def info(self) -> VerifierInfo:
        """What it runs, and its measured prefill speed. Raises VerifierUnavailable."""
        ...
