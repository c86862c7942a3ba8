"""How long streams stood still around a fault, measured between events at their clients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hola_bench.chaos.inject import Injected
from hola_bench.chaos.schedule import Kind
from hola_bench.chaos.transcript import Transcript

# A killed process's last answers may still be under way: the pause begins within this time.
BEGINS_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """The longest pause of one stream around one fault, seconds."""

    kind: Kind
    role: str
    quiet: bool
    seconds: float
    reconnects: int


def stalls(transcripts: Iterable[Transcript], injected: Sequence[Injected]) -> list[Stall]:
    """One for each fault and each stream that had events before and after it, local ones left out.

    The pause is the longest one between two events of the stream that contains the fault or
    begins within BEGINS_WITHIN_S after it.
    """
    found = []
    for transcript in transcripts:
        if transcript.plan.local:
            continue  # it does not wait for a verifier
        stretches, summary = transcript.stretches, transcript.summary
        for each in injected:
            pauses = [longest_pause(times, each.hit_s) for times in stretches]
            for pause in filter(None, pauses):
                found.append(
                    Stall(
                        kind=each.fault.kind,
                        role=each.fault.target.partition("-")[0],
                        quiet=each.fault.quiet,
                        seconds=pause,
                        reconnects=summary.reconnects if summary else 0,
                    )
                )
    return found


def longest_pause(times: Sequence[float], hit_s: float) -> float | None:
    """The longest pause around `hit_s` between events at `times`; None if not under way."""
    if len(times) < 2 or not times[0] <= hit_s < times[-1]:
        return None
    return max(
        after - before
        for before, after in pairwise(times)
        if after > hit_s and before <= hit_s + BEGINS_WITHIN_S
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; 0 of none."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else 0.0
