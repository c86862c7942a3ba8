"""The seams of the system as protocols: every one has a remote and a local adapter."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hola.types import (
    GenerateEvent,
    GenerateJob,
    VerifierInfo,
    VerifierRequest,
    VerifierResponse,
)

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine runs: sizes in tokens and bytes."""

    name: str
    vocab_size: int
    context_length: int
    eos_token_ids: tuple[int, ...]
    kv_bytes_per_token: int
    weight_bytes: int
    provider: str


class EngineSession(Protocol):
    """One sequence's KV cache. Not thread-safe: use it from the engine's worker thread only."""

    @property
    def length(self) -> int:
        """Tokens whose keys and values are in the cache."""
        ...

    @property
    def capacity(self) -> int:
        """Most tokens the cache can hold (padding included in what was allocated)."""
        ...

    def forward(self, tokens: Sequence[int]) -> Logits:
        """Append tokens and return their logits, shape (len(tokens), vocab_size) float32.

        Row i is the distribution of the token after tokens[i]. The array may be overwritten by the
        next call. Width is padded to even and at least 2 inside (DESIGN rule 2).
        Raises EngineFailure on a failed pass, PromptTooLong beyond the capacity.
        """
        ...

    def prefill(self, tokens: Sequence[int]) -> None:
        """Append tokens whose logits nobody needs. Mutates the cache only."""
        ...

    def truncate(self, length: int) -> None:
        """Forget all tokens from `length` on; constant time. length <= self.length."""
        ...

    def close(self) -> None:
        """Free the cache. Idempotent."""
        ...


class Engine(Protocol):
    """A loaded decoder model."""

    @property
    def info(self) -> EngineInfo:
        """Sizes and provider."""
        ...

    def open(self, capacity: int) -> EngineSession:
        """Allocate a KV cache for up to `capacity` tokens.

        Raises MemoryBudgetExceeded naming the numbers.
        """
        ...

    def close(self) -> None:
        """Free the weights. Idempotent."""
        ...


class Tokenizer(Protocol):
    """Text to token ids and back; one per model family."""

    @property
    def fingerprint(self) -> str:
        """Hex sha256 that is equal for equal vocabularies and merges."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of ids, specials included."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of text; special tokens written in it are honoured, none are added."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, specials left out; incomplete UTF-8 becomes U+FFFD."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a ladder proposes: tokens, who first proposed each, and how sure the last tier was.

    `tiers[i]` is the name of the tier that first proposed tokens[i]; `entropies[i]` is the entropy
    in nats of the checking tier's distribution there (infinite where no engine looked).
    """

    tokens: tuple[int, ...] = ()
    tiers: tuple[str, ...] = ()
    entropies: tuple[float, ...] = ()


class Proposer(Protocol):
    """A tier, or a ladder of tiers: guesses what follows."""

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names, cheapest first."""
        ...

    def propose(self, prefix: Sequence[int], k: int) -> Proposal:
        """Guess up to k tokens after prefix (prompt and output so far).

        Any prefix may follow any other: caches roll back by themselves to what still holds.
        May return fewer than k, or none.
        """
        ...

    def close(self) -> None:
        """Free the caches. Idempotent."""
        ...


class VerifierLink(Protocol):
    """One verifier session's stream."""

    async def send(self, message: VerifierRequest) -> None:
        """Send a message. Raises SessionLost when the stream is broken."""
        ...

    async def receive(self) -> VerifierResponse:
        """Next answer. Raises the HolaError the verifier ended with, or SessionLost."""
        ...

    async def close(self) -> None:
        """End the stream; the verifier frees or keeps the session by its own rules. Idempotent."""
        ...


class VerifierPort(Protocol):
    """Where the target lives: `grpc://host:port`, `unix:///path` or `local:`."""

    @property
    def address(self) -> str:
        """As configured."""
        ...

    async def info(self) -> VerifierInfo:
        """Raises VerifierUnavailable."""
        ...

    async def connect(self, session_id: str = "", *, fingerprint: str = "") -> VerifierLink:
        """A new stream. Raises VerifierUnavailable.

        Where there are several verifiers, `session_id` picks one, the same one each time while it
        is there, among those of numerics `fingerprint` ("" for any) if one of them can be reached.
        """
        ...

    async def close(self) -> None:
        """Close all links. Idempotent."""
        ...


class DrafterPort(Protocol):
    """A drafter that can be called directly."""

    def generate(self, job: GenerateJob) -> AsyncGenerator[GenerateEvent, None]:
        """Events of one request: Started, Tokens..., then Summary or Failure. Closing the
        iterator stops the compute."""
        ...
