"""A deterministic engine without a model: logits hashed from a seed and every token before."""

from __future__ import annotations

from collections.abc import Sequence

from hola.ports import EngineInfo, EngineSession


class ScriptedEngine:
    """Logits after token t are a pure function of (seed, tokens 0..t).

    `noise` > 0 makes it a noisy copy: its logits are those of the engine with the same `seed`
    plus `noise` times logits of `noise_seed`, so that a draft is accepted only now and then.
    """

    def __init__(  # noqa: PLR0913
        self,
        *,
        name: str = "scripted",
        seed: int = 0,
        vocab_size: int = 258,
        eos_token_ids: tuple[int, ...] = (256,),
        context_length: int = 4096,
        sharpness: float = 3.0,
        noise: float = 0.0,
        noise_seed: int = 1,
    ) -> None:
        raise NotImplementedError

    @classmethod
    def from_spec(cls, spec: str) -> ScriptedEngine:
        """From "scripted:seed=1,vocab_size=300,noise=0.5" (any constructor argument).

        Raises ConfigError naming an unknown key or a malformed value.
        """
        raise NotImplementedError

    @property
    def info(self) -> EngineInfo:
        """Sizes and provider."""
        raise NotImplementedError

    def open(self, capacity: int) -> EngineSession:
        """A session for up to `capacity` tokens. Raises PromptTooLong beyond the context."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to free. Idempotent."""


class ScriptedTokenizer:
    """One token per UTF-8 byte; ids from 256 on are specials without text."""

    def __init__(self, vocab_size: int = 258) -> None:
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """Hex sha256 that is equal for equal vocabularies."""
        raise NotImplementedError

    @property
    def vocab_size(self) -> int:
        """Number of ids, specials included."""
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of text."""
        raise NotImplementedError

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, specials left out; incomplete UTF-8 becomes U+FFFD."""
        raise NotImplementedError
