"""A drafter session driven message by message: fakes for what it asks, and shorthands."""

from __future__ import annotations

import itertools

from hola.ports import Proposal
from hola.speculation.drafter_session import DrafterSession
from hola.speculation.pacing import FixedPacing, RoundReport
from hola.types import (
    Exactness,
    GenerateJob,
    Opened,
    SamplingParams,
    SpeculationParams,
)
from tests.unit.speculation.drive import EOS, TOKENIZER

A, B, C, D, E = range(5)
PROMPT = (A, B)
OPENED = Opened(
    fingerprint="f1",
    exactness=Exactness.EXACT,
    context_length=100,
    eos_token_ids=(EOS,),
    prefill_ns=700,
    queue_ns=200,
)


class Script:
    """A ladder that proposes what it is told; remembers what it was asked."""

    tiers = ("lookup", "tiny")

    def __init__(self, *proposals: tuple[int, ...], entropy: float = 0.1) -> None:
        self.proposals = list(proposals)
        self.entropy = entropy
        self.asked: list[tuple[list[int], int]] = []

    def propose(self, prefix, k):
        self.asked.append((list(prefix), k))
        if k == 0:
            return Proposal()
        tokens = self.proposals.pop(0)
        return Proposal(
            tokens=tokens,
            tiers=("tiny",) * len(tokens),
            entropies=(self.entropy,) * len(tokens),
        )

    def close(self) -> None:
        raise AssertionError("the session does not own its ladder")


class Pacing:
    """Three tokens always; remembers the reports."""

    def __init__(self) -> None:
        self.reports: list[RoundReport] = []

    def next_draft_tokens(self) -> int:
        return 3

    def observe(self, report: RoundReport) -> None:
        self.reports.append(report)


def make(
    *proposals: tuple[int, ...],
    k: int = 3,
    sampling: SamplingParams | None = None,
    speculation: SpeculationParams | None = None,
    entropy: float = 0.1,
    **changes,
) -> DrafterSession:
    ticks = itertools.count(step=10_000)
    fields = {
        "prompt": PROMPT,
        "model": "demo",
        "ladder": Script(*proposals, entropy=entropy),
        "pacing": FixedPacing(k),
        "tokenizer": TOKENIZER,
        "target_name": "target",
        "context_length_of_drafts": 100,
        "clock": lambda: next(ticks),
        **changes,
    }
    job = GenerateJob(
        request_id="r1",
        model="demo",
        sampling=sampling or SamplingParams(),
        speculation=speculation or SpeculationParams(),
    )
    return DrafterSession(job, **fields)


def open_up(session: DrafterSession) -> list:
    session.start()
    return session.on_opened(OPENED, 1000)


def draft(session: DrafterSession, draft_ns: int = 50) -> list:
    return session.on_draft(session.draft(), draft_ns)
