"""What goes wrong, when and to whom: a pure function of a seed, so that a run can be repeated."""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass

PARTITION_S = 5.0
REDIS = "redis"


class Kind(enum.StrEnum):
    """One sort of fault."""

    KILL = "kill"  # SIGKILL, started again after a moment
    TERM = "term"  # SIGTERM: the service drains; started again after it has ended
    FREEZE = "freeze"  # SIGSTOP, later SIGCONT
    CUT = "cut"  # no packet in or out: a partition
    LOSE = "lose"  # a share of the packets is lost
    DELAY = "delay"  # packets come late, and not equally late
    OUTAGE = "outage"  # every process of the target's role is killed at once


# What one fleet meets, in the proportions of the issue: (kind, role, how many of 50).
_MIX = (
    (Kind.KILL, "verifier", 10),
    (Kind.KILL, "drafter", 7),
    (Kind.KILL, "router", 5),
    (Kind.KILL, REDIS, 2),
    (Kind.CUT, "verifier", 3),
    (Kind.CUT, "drafter", 2),
    (Kind.CUT, "router", 2),
    (Kind.FREEZE, "verifier", 3),
    (Kind.FREEZE, "drafter", 2),
    (Kind.FREEZE, "router", 1),
    (Kind.TERM, "verifier", 2),
    (Kind.TERM, "drafter", 2),
    (Kind.TERM, "router", 1),
    (Kind.TERM, REDIS, 1),
    (Kind.CUT, REDIS, 1),
    (Kind.FREEZE, REDIS, 1),
    (Kind.OUTAGE, "verifier", 3),
    (Kind.LOSE, "verifier", 1),
    (Kind.LOSE, "drafter", 1),
    (Kind.DELAY, "verifier", 1),
)
# A storm is a fault that comes so soon after the one before that both are under way together.
STORM = 0.3
STORM_GAP_S = (0.1, 0.6)
GAP_S = (1.0, 2.5)
# Time without other faults around a quiet one, seconds. The first fault of each sort is quiet, and
# of the others this share.
QUIET_BEFORE_S = 4.0
QUIET_AFTER_S = 4.0
QUIET = 0.05
QUIET_VERIFIER_KILL = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A fleet: how many of each service, and what can be done to its links."""

    verifiers: int = 2
    drafters: int = 3
    routers: int = 2
    links: frozenset[Kind] = frozenset()

    def names(self, role: str) -> tuple[str, ...]:
        """Names of the processes of a role, e.g. verifier-0."""
        if role == REDIS:
            return (REDIS,)
        counts = {"verifier": self.verifiers, "drafter": self.drafters, "router": self.routers}
        return tuple(f"{role}-{number}" for number in range(counts[role]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: `at_s` seconds after the start `target` is hit, for `for_s` seconds.

    `amount` is the share of packets lost, or the seconds of delay. A `quiet` fault has no other
    one around it, and the whole fleet is healthy when it comes: the pause it makes is measured.
    """

    number: int
    at_s: float
    kind: Kind
    target: str
    for_s: float
    amount: float = 0.0
    quiet: bool = False

    def __str__(self) -> str:
        amount = f" {self.amount:.0%}" if self.kind is Kind.LOSE else ""
        amount = f" {self.amount * 1000:.0f} ms" if self.kind is Kind.DELAY else amount
        what = f"{self.kind} {self.target}{amount}"
        return f"{self.number}: at {self.at_s:.1f} s {what} for {self.for_s:.1f} s"


def draw_faults(seed: int, count: int, shape: Shape) -> tuple[Fault, ...]:
    """`count` faults in the order of their times, the commonest kinds first among few."""
    rng = random.Random(f"faults {seed}")
    faults: list[Fault] = []
    met: set[tuple[Kind, str]] = set()
    at_s, busy_until_s = 2.0, 0.0
    for number, (kind, role) in enumerate(_deck(rng, count, shape)):
        is_measured = kind is Kind.KILL and role == "verifier"
        is_first = (kind, role) not in met
        met.add((kind, role))
        quiet = is_first or rng.random() < (QUIET_VERIFIER_KILL if is_measured else QUIET)
        storm = not quiet and number > 0 and not faults[-1].quiet and rng.random() < STORM
        if quiet:
            at_s = max(at_s, busy_until_s) + QUIET_BEFORE_S
        elif number > 0:
            at_s += rng.uniform(*(STORM_GAP_S if storm else GAP_S))
        fault = _fault(rng, number, at_s, kind, role, shape, quiet=quiet)
        faults.append(fault)
        busy_until_s = max(busy_until_s, at_s + fault.for_s)
        at_s += QUIET_AFTER_S + (0.0 if is_measured else fault.for_s) if quiet else 0.0
    return tuple(faults)


def rolling_restart(shape: Shape, rounds: int = 1) -> tuple[Fault, ...]:
    """Every verifier stopped in order and started again, the next one once the fleet is whole."""
    names = shape.names("verifier") * rounds
    return tuple(
        Fault(number=n, at_s=2.0 + 2.0 * n, kind=Kind.TERM, target=name, for_s=0.0, quiet=True)
        for n, name in enumerate(names)
    )


def _fault(
    rng: random.Random,
    number: int,
    at_s: float,
    kind: Kind,
    role: str,
    shape: Shape,
    *,
    quiet: bool,
) -> Fault:
    target = rng.choice(shape.names(role))
    for_s, amount = rng.uniform(0.2, 1.5), 0.0
    if kind in {Kind.FREEZE, Kind.OUTAGE}:
        for_s = rng.uniform(1.5, 6.0)
    elif kind is Kind.CUT:
        for_s = PARTITION_S
    elif kind in {Kind.LOSE, Kind.DELAY}:
        for_s, amount = rng.uniform(4.0, 8.0), rng.uniform(0.02, 0.2)
    return Fault(
        number=number,
        at_s=round(at_s, 3),
        kind=kind,
        target=target,
        for_s=round(for_s, 3),
        amount=round(amount, 3),
        quiet=quiet,
    )


def _deck(rng: random.Random, count: int, shape: Shape) -> list[tuple[Kind, str]]:
    """Kinds and roles, in proportion to _MIX, in random order; few faults take the first rows."""
    on_links = {Kind.CUT, Kind.LOSE, Kind.DELAY}
    mix = [row for row in _MIX if row[0] in shape.links or row[0] not in on_links]
    total = sum(weight for _, _, weight in mix)
    deck: list[tuple[Kind, str]] = []
    owed = [0.0] * len(mix)
    while len(deck) < count:
        # The row that is furthest behind its share; the first of equals.
        for at, (_, _, weight) in enumerate(mix):
            owed[at] += weight / total
        at = max(range(len(mix)), key=lambda i: owed[i])
        owed[at] -= 1.0
        deck.append((mix[at][0], mix[at][1]))
    rng.shuffle(deck)
    return deck


def lines(faults: Sequence[Fault]) -> list[str]:
    """The schedule as text, one fault a line."""
    return [str(fault) for fault in faults]
