"""Engines that are wrong on purpose, for the code that has to notice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hola.engines.scripted import ScriptedEngine
from hola.ports import EngineInfo, EngineSession, Logits


class WidthSensitiveEngine:
    """Adds one unit in the last place to the logits of every pass wider than `limit` tokens."""

    def __init__(self, limit: int) -> None:
        self._inner = ScriptedEngine()
        self._limit = limit

    @property
    def info(self) -> EngineInfo:
        return self._inner.info

    def open(self, capacity: int) -> EngineSession:
        return _WidthSensitiveSession(self._inner.open(capacity), self._limit)

    def close(self) -> None:
        self._inner.close()


class _WidthSensitiveSession:
    def __init__(self, inner: EngineSession, limit: int) -> None:
        self._inner = inner
        self._limit = limit

    @property
    def length(self) -> int:
        return self._inner.length

    @property
    def capacity(self) -> int:
        return self._inner.capacity

    def forward(self, tokens: Sequence[int]) -> Logits:
        logits = self._inner.forward(tokens)
        return np.nextafter(logits, np.float32(np.inf)) if len(tokens) > self._limit else logits

    def prefill(self, tokens: Sequence[int]) -> None:
        self._inner.prefill(tokens)

    def truncate(self, length: int) -> None:
        self._inner.truncate(length)

    def close(self) -> None:
        self._inner.close()
