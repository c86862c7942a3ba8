"""Logs for gates: questions whose kind says whether retrieval helps, with a share of noise."""

from __future__ import annotations

import random
from dataclasses import replace

from hola.retrieval.gate.logs import LogEntry

PLACES = ("Otter Lake", "Brim Hall", "Nord Gate", "Vell Pass")


def logs(count: int, *, seed: int = 0, noise: float = 0.1, drafts: bool = False) -> list[LogEntry]:
    """Half are lookups that retrieval mends, half are asides that it does not, or even breaks.

    With `drafts` an entry has signals of a draft: one that says how it ended, one of noise.
    """
    rng = random.Random(seed)
    entries = []
    for number in range(count):
        lookup = number % 2 == 0
        place = rng.choice(PLACES)
        text = (
            f"In which year was the {place} bridge number {rng.randrange(100)} opened?"
            if lookup
            else f"why do people like {rng.choice(['tea', 'rain', 'cats', 'bread'])} so much"
        )
        mended = lookup != (rng.random() < noise)
        entry = LogEntry(question=text, none=float(not mended), light=1.0 if mended else 0.7)
        if drafts:
            doubt = float(mended) + rng.random() / 2
            entry = replace(entry, signals={"u_nll_mean": doubt, "u_tokens": rng.random()})
        entries.append(entry)
    return entries
