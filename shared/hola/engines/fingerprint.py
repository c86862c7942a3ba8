"""Does this engine give the same bits at every width, and which bits: the numerics fingerprint.

A verifier runs the probe once at start-up. Two verifiers of equal fingerprints choose equal tokens,
so a session may move between them; one whose probe disagrees with itself must not call its output
exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hola.ports import Engine, EngineSession, Logits
from hola.speculation.noise import gumbel

PREFIX_TOKENS = 64
WINDOW_TOKENS = 32
WIDTHS = (2, 3, 4, 7, 8, 16, 32)  # odd ones begin at every remainder of four
PREFILL_SPLITS = ((32, 32), (16, 16, 16, 16), (40, 24), (63, 1))
_NOISE_SEEDS = (0, 2**63)
_NOISE_IDS = 256
_MULTIPLIER = 0x9E3779B1


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`digest` is the hex sha256 of the probe's logits and noise; `reason` says why not exact."""

    digest: str
    exact: bool
    reason: str = ""


def probe(engine: Engine) -> Fingerprint:
    """Run a fixed token sequence through `engine` in many ways and compare the logits bitwise.

    About 600 tokens in all; opens and closes one session. A context too short for the whole probe
    gets a shorter one. Raises what the engine raises.
    """
    info = engine.info
    length = min(PREFIX_TOKENS + WINDOW_TOKENS, info.context_length)
    tokens = _tokens(length, info.vocab_size)
    split = min(PREFIX_TOKENS, length // 2)
    session = engine.open(length)
    try:
        return _compare(session, tokens[:split], tokens[split:], info.vocab_size)
    finally:
        session.close()


def _compare(
    session: EngineSession, prefix: list[int], window: list[int], vocab_size: int
) -> Fingerprint:
    session.prefill(prefix)
    reference = session.forward(window).copy()
    ways: dict[str, Callable[[], Logits]] = {
        f"width {width}": lambda width=width: _in_chunks(  # type: ignore[misc]
            session, len(prefix), window, width
        )
        for width in WIDTHS
    }
    ways["after a rolled back guess"] = lambda: _after_wrong_guess(session, len(prefix), window)
    for parts in PREFILL_SPLITS:
        if sum(parts) == len(prefix):
            name = f"prefill {'+'.join(map(str, parts))}"
            ways[name] = lambda parts=parts: _after_prefill(  # type: ignore[misc]
                session, prefix, parts, window
            )
    different = [name for name, way in ways.items() if not _equal(way(), reference)]
    reason = f"logits differ at: {', '.join(different)}" if different else ""
    return Fingerprint(_digest(reference, vocab_size), not different, reason)


def _tokens(length: int, vocab_size: int) -> list[int]:
    """Spread over the vocabulary, the same on every machine."""
    return [((index + 1) * _MULTIPLIER >> 7) % vocab_size for index in range(length)]


def _in_chunks(session: EngineSession, start: int, window: list[int], width: int) -> Logits:
    session.truncate(start)
    starts = range(0, len(window), width)
    return np.concatenate([session.forward(window[at : at + width]).copy() for at in starts])


def _after_wrong_guess(session: EngineSession, start: int, window: list[int]) -> Logits:
    """Reject a block twice, at an even and at an odd length, before going on rightly."""
    half = len(window) // 2
    session.truncate(start)
    session.forward(window[half:])
    session.truncate(start)
    first = session.forward(window[: half + 1]).copy()
    session.forward(window[: half - 1])
    session.truncate(start + half + 1)
    return np.concatenate([first, session.forward(window[half + 1 :])])


def _after_prefill(
    session: EngineSession, prefix: list[int], parts: tuple[int, ...], window: list[int]
) -> Logits:
    session.truncate(0)
    at = 0
    for part in parts:
        session.prefill(prefix[at : at + part])
        at += part
    return session.forward(window)


def _equal(left: Logits, right: Logits) -> bool:
    """Bit for bit: also tells 0.0 from -0.0."""
    return bool(np.array_equal(left.view(np.uint32), right.view(np.uint32)))


def _digest(logits: Logits, vocab_size: int) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(logits, "<f4").tobytes())
    ids = np.arange(min(vocab_size, _NOISE_IDS))
    for seed in _NOISE_SEEDS:
        for position in (0, 1, 4095):
            digest.update(gumbel(seed, position, ids).astype("<f8").tobytes())
    return digest.hexdigest()
