"""What each client does: its prompt, its ladder, when it hangs up: a pure function of a seed."""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass

from hola.speculation.proposers import LOOKUP

HANGS_UP = 0.35
HAS_KEY = 0.25
GIVES_UP = 0.05


class Trick(enum.StrEnum):
    """What a client does besides reading."""

    DETACH = "detach"  # cuts the connection, comes back after a moment, at another router
    CANCEL = "cancel"  # asks a router to end the request


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A trick that is due once `after_tokens` tokens have come; `pause_s` before coming back."""

    after_tokens: int
    trick: Trick
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One stream: which case it asks for, with which ladder, from which router, and its moves.

    With `keyed` the request has an idempotency key instead of an id of its own until its first
    event; `asks_again` sends the same key once more after a loss, instead of Resume.
    """

    number: int
    case: int
    ladder: tuple[str, ...] | None
    draft_tokens: int | None
    router: int
    keyed: bool
    asks_again: bool
    moves: tuple[Move, ...]

    @property
    def cancels(self) -> bool:
        """Whether the client ends the request itself."""
        return any(move.trick is Trick.CANCEL for move in self.moves)


def draw_plan(seed: int, number: int, cases: int, tiers: Sequence[str], routers: int) -> Plan:
    """The stream with this number. `tiers` are the drafts' names, cheapest first."""
    rng = random.Random(f"client {seed} {number}")
    every = (LOOKUP, *tiers)
    ladders = [None, None, every, (LOOKUP,), (), (*tiers[:1],), (*tiers,)]
    keyed = rng.random() < HAS_KEY
    return Plan(
        number=number,
        case=rng.randrange(cases),
        ladder=rng.choice(ladders),
        draft_tokens=rng.choice([None, None, 0, 1, 3, 6]),
        router=rng.randrange(routers),
        keyed=keyed,
        asks_again=keyed and rng.random() < 0.5,
        moves=_moves(rng),
    )


def _moves(rng: random.Random) -> tuple[Move, ...]:
    if rng.random() < GIVES_UP:
        return (Move(after_tokens=rng.randint(1, 60), trick=Trick.CANCEL),)
    moves: list[Move] = []
    at = 0
    while rng.random() < HANGS_UP and len(moves) < 3:
        at += rng.randint(1, 80)
        pause_s = rng.choice([0.0, 0.0, rng.uniform(0.1, 2.0)])
        moves.append(Move(after_tokens=at, trick=Trick.DETACH, pause_s=round(pause_s, 3)))
    return tuple(moves)
