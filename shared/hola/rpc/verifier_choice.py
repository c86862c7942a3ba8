"""Which verifier a session goes to: equal numerics, then healthy, then a stable hash; pure.

Rendezvous hashing: every address gets a score from the session and its own name, the highest
wins. All drafters agree without talking, a session comes back to where its KV cache is, and an
address that goes takes only its own sessions along.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

# Sessions and queued jobs by which the hash's choice may exceed the least loaded address.
LOAD_MARGIN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is known of one address.

    `fingerprint` None is not known yet, "" is none at all (its probe failed). `paused`: its breaker
    is open. `shunned`: this session has been refused or lost there, or it has just said it is full.
    """

    address: str
    fingerprint: str | None = None
    load: int = 0
    suspect: bool = False
    paused: bool = False
    draining: bool = False
    shunned: bool = False


def order(
    candidates: Iterable[Candidate],
    session_id: str,
    fingerprint: str = "",
    *,
    margin: int = LOAD_MARGIN,
) -> tuple[str, ...]:
    """The addresses to try, in turn; draining ones are left out.

    Those of the wanted numerics come first ("" wants none in particular), those of others last.
    Within the best group the least loaded goes before the hash's choice where that one's load is
    larger by more than `margin`.
    """
    able = [candidate for candidate in candidates if not candidate.draining]
    ranked = sorted(
        able,
        key=lambda each: (_rank(each, fingerprint), -_score(session_id, each.address)),
    )
    if not ranked:
        return ()
    best = [each for each in ranked if _rank(each, fingerprint) == _rank(ranked[0], fingerprint)]
    idlest = min(best, key=lambda each: each.load)
    if best[0].load > idlest.load + margin:
        ranked.remove(idlest)
        ranked.insert(0, idlest)
    return tuple(each.address for each in ranked)


def _rank(candidate: Candidate, fingerprint: str) -> tuple[int, bool, bool, bool]:
    """Smaller is better."""
    numerics = 0
    if fingerprint and candidate.fingerprint != fingerprint:
        numerics = 1 if candidate.fingerprint is None else 2
    return numerics, candidate.paused, candidate.suspect, candidate.shunned


def _score(session_id: str, address: str) -> int:
    digest = hashlib.blake2b(f"{session_id}\n{address}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)
