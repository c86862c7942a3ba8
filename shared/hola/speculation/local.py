"""A drafter and a verifier session wired together in one thread, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter_ns

from hola.ports import EngineInfo
from hola.speculation.actions import Action, Draft, Emit
from hola.speculation.drafter_session import DrafterSession
from hola.speculation.verifier_session import VerifierSession
from hola.types import (
    CancelSession,
    DraftBlock,
    Exactness,
    GenerateEvent,
    Open,
    Opened,
    Verdict,
    VerifierRequest,
)


def run_local(
    drafter: DrafterSession,
    verifier: VerifierSession,
    target: EngineInfo,
    *,
    fingerprint: str = "local",
) -> Iterator[GenerateEvent]:
    """The events of one request, drafting and verifying by turns in the calling thread.

    Errors propagate as exceptions; nothing is closed here.
    """
    actions = drafter.start()
    while actions:
        following: list[Action] = []
        for action in actions:
            if isinstance(action, Emit):
                yield action.event
                continue
            begin_ns = perf_counter_ns()
            if isinstance(action, Draft):
                proposal = drafter.draft()
                following = drafter.on_draft(proposal, perf_counter_ns() - begin_ns)
                continue
            answer = answer_locally(verifier, action.message, target, fingerprint)
            round_trip_ns = perf_counter_ns() - begin_ns
            if isinstance(answer, Opened):
                following = drafter.on_opened(answer, round_trip_ns)
            elif isinstance(answer, Verdict):
                following = drafter.on_verdict(answer, round_trip_ns)
        actions = following


def answer_locally(
    verifier: VerifierSession, message: VerifierRequest, target: EngineInfo, fingerprint: str
) -> Opened | Verdict | None:
    """What a verifier host answers, without queue or stream; None to CancelSession."""
    begin_ns = perf_counter_ns()
    match message:
        case Open():
            cached = verifier.rebase(message.prompt, message.committed, sampling=message.sampling)
            for _ in verifier.prefill_steps():
                pass
            return Opened(
                fingerprint=fingerprint,
                exactness=Exactness.EXACT,
                context_length=target.context_length,
                eos_token_ids=target.eos_token_ids,
                prefill_ns=perf_counter_ns() - begin_ns,
                cached_tokens=cached,
            )
        case DraftBlock():
            verdict = verifier.verify(message)
            return replace(verdict, compute_ns=perf_counter_ns() - begin_ns)
        case CancelSession():
            return None
