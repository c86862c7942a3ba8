"""A verifier that answers anything, or nothing: the request ends once, with a typed reason."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, strategies as st

from hola.engines.scripted import ScriptedTokenizer
from hola.engines.worker import EngineWorker
from hola.errors import EngineFailure, HolaError, Overloaded, SessionLost, SessionMoved
from hola.speculation.drafter_session import DrafterSession
from hola.speculation.pacing import FixedPacing
from hola.telemetry import Metrics
from hola.transcript import Transcript
from hola.types import (
    Failure,
    GenerateEvent,
    Outage,
    SamplingParams,
    SpeculationParams,
    Summary,
    VerifierRequest,
    VerifierResponse,
)
from hola_drafter.caches import DraftCaches
from hola_drafter.loop import run_session
from hola_drafter.patience import Patience
from tests.support import domain
from tests.support.scripted_system import InProcessLink, InProcessVerifier, draft_model, job
from tests.unit.speculation.fuzz import FUZZ

HONEST = None
ERRORS = st.sampled_from(
    [SessionLost("gone"), SessionMoved("drains"), Overloaded("full"), EngineFailure("broken")]
)
# What the verifier does with one message: answers as it should, or with anything at all.
ANSWERS = st.lists(
    st.just(HONEST) | st.just(HONEST) | st.just(HONEST) | domain.verifier_responses | ERRORS,
    max_size=12,
)
REASONS = {
    *("PROTOCOL_VIOLATION", "PROMPT_TOO_LONG", "ENGINE_FAILURE", "VERIFIER_UNAVAILABLE"),
    *("SESSION_LOST", "SESSION_MOVED", "OVERLOADED"),
}


@dataclass
class Liar(InProcessVerifier):
    """Answers from a list, then honestly."""

    answers: Iterator[Any] = field(default_factory=lambda: iter(()))

    async def connect(self, session_id: str = "", *, fingerprint: str = "") -> InProcessLink:
        self.open_links += 1
        return LyingLink(self, self.answers)


class LyingLink(InProcessLink):
    """A stream with a liar at its end."""

    def __init__(self, verifier: Liar, answers: Iterator[Any]) -> None:
        super().__init__(verifier)
        self._answers = answers

    async def send(self, message: VerifierRequest) -> None:
        await super().send(message)
        self._lie = next(self._answers, HONEST)

    async def receive(self) -> VerifierResponse:
        answer = await super().receive()
        if self._lie is HONEST:
            return answer
        if isinstance(self._lie, HolaError):
            raise self._lie
        return self._lie


async def play(answers: list[Any], outage: Outage) -> list[GenerateEvent]:
    """One request of twelve tokens, to its end."""
    wanted = job(
        sampling=SamplingParams(max_tokens=12, seed=3),
        speculation=SpeculationParams(outage=outage),
    )
    model, verifier, events = draft_model(), Liar(answers=iter(answers)), []
    caches = DraftCaches(model.engines, model.tiers, wanted, 64, Metrics())
    ladder = caches.open()
    assert ladder is not None

    async def emit(event: GenerateEvent) -> None:
        events.append(event)

    session = DrafterSession(
        wanted,
        prompt=tuple(ScriptedTokenizer().encode(wanted.prompt)),
        model="scripted",
        ladder=ladder,
        pacing=FixedPacing(3),
        tokenizer=ScriptedTokenizer(),
        target_name="target",
        context_length_of_drafts=4096,
        clock=time.perf_counter_ns,
        writer=ladder.writer,
        eos_of_drafts=caches.eos_token_ids,
    )
    patience = Patience(verifier_wait_s=0.05, hang_up_s=0.01, local_after_s=0.0)
    worker = EngineWorker("test")
    try:
        async with asyncio.timeout(60):
            await run_session(session, verifier, worker, emit, key="r1", patience=patience)
    finally:
        await worker.close()
        caches.close()
    assert verifier.open_links == 0
    return events


@FUZZ
@given(answers=ANSWERS, outage=st.sampled_from(Outage))
def test_a_verifier_that_answers_anything(answers, outage) -> None:
    events = asyncio.run(play(answers, outage))
    assert [event for event in events if isinstance(event, Summary | Failure)] == events[-1:]
    transcript = Transcript()
    for event in events:
        transcript.note(event)
    end = transcript.end
    if isinstance(end, Failure):
        assert end.reason in REASONS, end
    else:
        assert isinstance(end, Summary)
        assert end.completion_tokens == len(transcript.tokens)
