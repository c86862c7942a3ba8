"""A deterministic engine without a model: logits hashed from a seed and every token before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from hola.errors import ConfigError, EngineFailure, PromptTooLong
from hola.ports import EngineInfo, EngineSession, Logits
from hola.speculation.noise import gumbel, mix

_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What decides a scripted engine's logits.

    `sharpness` scales them: the higher, the lower their entropy. `noise` > 0 makes a noisy copy:
    the logits of the engine with the same `seed`, plus `noise` times those of `noise_seed`, so
    that a draft is accepted only now and then. `eos_bias` is added to the eos logits.
    """

    name: str = "scripted"
    seed: int = 0
    vocab_size: int = 258
    eos_token_id: int = 256
    context_length: int = 4096
    sharpness: float = 3.0
    noise: float = 0.0
    noise_seed: int = 1
    eos_bias: float = 0.0


class ScriptedEngine:
    """Logits after token t are a pure function of (script, tokens 0..t), whatever the chunks.

    A KV cache that was rolled back wrongly gives other logits, so tests see it.
    """

    def __init__(self, script: Script | None = None) -> None:
        self.script = Script() if script is None else script

    @classmethod
    def from_spec(cls, spec: str) -> ScriptedEngine:
        """From "scripted:" or "scripted:seed=1,noise=0.5" (any field of Script).

        Raises ConfigError naming an unknown key or a malformed value.
        """
        scheme, _, settings = spec.partition(":")
        if scheme != "scripted":
            raise ConfigError(f"{spec!r} is not a scripted engine, expected 'scripted:key=value'")
        kinds = {field.name: type(getattr(Script(), field.name)) for field in fields(Script)}
        values: dict[str, Any] = {}
        for setting in filter(None, settings.split(",")):
            key, _, text = setting.partition("=")
            if key not in kinds:
                raise ConfigError(f"{spec!r}: no setting {key!r}; known: {', '.join(kinds)}")
            try:
                values[key] = kinds[key](text)
            except ValueError:
                expected = kinds[key].__name__
                raise ConfigError(f"{spec!r}: {key} is {text!r}, expected {expected}") from None
        return cls(replace(Script(), **values))

    @property
    def info(self) -> EngineInfo:
        """Sizes and provider; a scripted model weighs nothing."""
        return EngineInfo(
            name=self.script.name,
            vocab_size=self.script.vocab_size,
            context_length=self.script.context_length,
            eos_token_ids=(self.script.eos_token_id,),
            kv_bytes_per_token=8,
            weight_bytes=0,
            provider="scripted",
        )

    def open(self, capacity: int) -> EngineSession:
        """A session for up to `capacity` tokens. Raises PromptTooLong beyond the context."""
        if capacity > self.script.context_length:
            raise PromptTooLong(
                f"a capacity of {capacity} tokens, the context is {self.script.context_length}",
                context_length=self.script.context_length,
            )
        return ScriptedSession(self.script, capacity)

    def close(self) -> None:
        """Nothing to free. Idempotent."""


class ScriptedSession:
    """The "KV cache" is one hash per token, each made from the token and the hash before it."""

    def __init__(self, script: Script, capacity: int) -> None:
        self._script = script
        self._capacity = capacity
        self._hashes: list[int] = []
        self._ids = np.arange(script.vocab_size)

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return len(self._hashes)

    @property
    def capacity(self) -> int:
        """Most tokens the cache can hold."""
        return self._capacity

    def forward(self, tokens: Sequence[int]) -> Logits:
        """Append tokens; logits float32, shape (len(tokens), vocab_size).

        Raises EngineFailure for a token outside the vocabulary, PromptTooLong past the capacity.
        """
        start = len(self._hashes)
        self.prefill(tokens)
        rows = np.empty((len(tokens), self._script.vocab_size), dtype=np.float32)
        for at, state in enumerate(self._hashes[start:]):
            rows[at] = self._row(state, start + at)
        return rows

    def prefill(self, tokens: Sequence[int]) -> None:
        """Append tokens without logits."""
        if len(self._hashes) + len(tokens) > self._capacity:
            raise PromptTooLong(
                f"{len(self._hashes) + len(tokens)} tokens in a cache of {self._capacity}",
                context_length=self._capacity,
            )
        for token in tokens:
            if not 0 <= token < self._script.vocab_size:
                raise EngineFailure(f"token id {token} is outside the vocabulary")
        for token in tokens:
            before = self._hashes[-1] if self._hashes else 0
            self._hashes.append(mix(before ^ mix(token)))

    def truncate(self, length: int) -> None:
        """Forget all tokens from `length` on."""
        if not 0 <= length <= len(self._hashes):
            raise EngineFailure(f"truncate to {length} of {len(self._hashes)} tokens")
        del self._hashes[length:]

    def close(self) -> None:
        """Forget everything. Idempotent."""
        self._hashes.clear()

    def _row(self, state: int, position: int) -> Logits:
        script = self._script
        row = script.sharpness * gumbel(state ^ mix(script.seed), position, self._ids)
        if script.noise:
            other = gumbel(state ^ mix(script.noise_seed), position, self._ids)
            row += script.noise * script.sharpness * other
        if 0 <= script.eos_token_id < script.vocab_size:
            row[script.eos_token_id] += script.eos_bias
        return row.astype(np.float32)


class ScriptedTokenizer:
    """One token per UTF-8 byte; ids from 256 on are specials without text."""

    def __init__(self, vocab_size: int = Script().vocab_size) -> None:
        if vocab_size < _BYTES:
            raise ConfigError(f"a byte tokenizer needs 256 ids, vocab_size is {vocab_size}")
        self._vocab_size = vocab_size

    @property
    def fingerprint(self) -> str:
        """Hex sha256 that is equal for equal vocabularies."""
        return hashlib.sha256(f"scripted bytes {self._vocab_size}".encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        """Number of ids, specials included."""
        return self._vocab_size

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of text."""
        return list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, specials left out; incomplete UTF-8 becomes U+FFFD."""
        return bytes(token for token in tokens if token < _BYTES).decode(errors="replace")
