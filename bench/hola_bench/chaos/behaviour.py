"""What each client does: its prompt, its ladder, when it hangs up: a pure function of a seed."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

from hola.speculation.proposers import LOOKUP

HANGS_UP = 0.35
HAS_KEY = 0.25
GIVES_UP = 0.05
GOES_ON_LOCALLY = 0.25


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
    event; `asks_again` sends the same key once more after a loss, instead of Resume. With `local`
    it asks for Outage.LOCAL, and what came twice or was voided is sorted out as HOLA's own client
    does it, before it is judged.
    """

    number: int
    case: int
    ladder: tuple[str, ...] | None
    draft_tokens: int | None
    router: int
    keyed: bool
    asks_again: bool
    local: bool
    moves: tuple[Move, ...]

    @property
    def cancels(self) -> bool:
        """Whether the client ends the request itself."""
        return any(move.trick is Trick.CANCEL for move in self.moves)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """What all clients of a run have in common: `tiers` are the drafts' names, cheapest first.

    A `patient` client neither hangs up nor cancels nor uses a key.
    """

    seed: int
    cases: int
    tiers: tuple[str, ...]
    routers: int
    patient: bool = False


def draw_plan(crowd: Crowd, number: int) -> Plan:
    """The stream with this number."""
    rng = random.Random(f"client {crowd.seed} {number}")
    tiers = crowd.tiers
    every = (LOOKUP, *tiers)
    ladders = [None, None, every, (LOOKUP,), (), (*tiers[:1],), (*tiers,)]
    local = rng.random() < GOES_ON_LOCALLY
    keyed = not (local or crowd.patient) and rng.random() < HAS_KEY
    return Plan(
        number=number,
        case=rng.randrange(crowd.cases),
        ladder=rng.choice(ladders),
        draft_tokens=rng.choice([None, None, 0, 1, 3, 6]),
        router=rng.randrange(crowd.routers),
        keyed=keyed,
        asks_again=keyed and rng.random() < 0.5,
        local=local,
        moves=() if crowd.patient else _moves(rng),
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
