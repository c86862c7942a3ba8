"""The session loop: whatever fails in between, the text is the target's own and the end is one."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from hola.engines.scripted import ScriptedTokenizer
from hola.engines.worker import EngineWorker
from hola.errors import EngineFailure, FingerprintMismatch, Overloaded, SessionLost
from hola.ports import Proposal
from hola.speculation.drafter_session import DrafterSession
from hola.speculation.pacing import FixedPacing
from hola.telemetry import Metrics
from hola.types import Failure, FinishReason, SamplingParams, Started, Summary, Tokens
from hola_drafter.caches import DraftCaches
from hola_drafter.loop import run_session
from hola_drafter.patience import Patience
from tests.support.scripted_system import (
    InProcessVerifier,
    draft_model,
    ids_of,
    job,
    plain_tokens,
)

PATIENCE = Patience(verifier_wait_s=0.5, hang_up_s=0.05)


@pytest.fixture
async def worker():
    worker = EngineWorker("test")
    yield worker
    await worker.close()


def make_session(ladder, *, wanted=None, draft_tokens=4, **changes):
    wanted = wanted or job()
    return DrafterSession(
        wanted,
        prompt=tuple(ScriptedTokenizer().encode(wanted.prompt)),
        model="scripted",
        ladder=ladder,
        pacing=FixedPacing(draft_tokens),
        tokenizer=ScriptedTokenizer(),
        target_name="target",
        context_length_of_drafts=4096,
        clock=time.perf_counter_ns,
        **changes,
    )


async def play(worker, verifier, *, patience=PATIENCE, **changes):
    """All events of one request with the whole ladder."""
    model = draft_model()
    wanted = changes.get("wanted") or job()
    caches = DraftCaches(model.engines, model.tiers, wanted, 64, Metrics())
    events = []

    async def emit(event):
        events.append(event)

    session = make_session(caches.open(), **changes)
    await run_session(session, verifier, worker, emit, key="r1", patience=patience)
    caches.close()
    return events


def check_ended(events, verifier):
    """Exactly one terminal event, at the end, and no session left at the verifier."""
    terminal = [event for event in events if isinstance(event, Summary | Failure)]
    assert terminal == events[-1:]
    assert verifier.open_links == 0


async def test_the_text_is_the_targets_own(worker):
    verifier = InProcessVerifier()
    events = await play(worker, verifier)
    check_ended(events, verifier)
    assert isinstance(events[0], Started)
    assert events[0].tiers == ("lookup", "tiny", "small", "target")
    assert ids_of(events) == plain_tokens(job().sampling)
    assert verifier.cancelled == ["r1"]
    assert events[-1].accepted_tokens > 0, "the tiers must have been of use"


async def test_a_verifier_lost_at_every_message_changes_nothing(worker):
    expected = plain_tokens(job().sampling)
    whole = InProcessVerifier()
    await play(worker, whole)
    for lost_at in range(whole.messages):
        verifier = InProcessVerifier(
            fail=lambda n, at=lost_at: SessionLost("gone") if n == at else None
        )
        events = await play(worker, verifier)
        check_ended(events, verifier)
        assert ids_of(events) == expected, f"lost at message {lost_at}"
        assert isinstance(events[-1], Summary)
        assert events[-1].reconnects == (1 if lost_at else 0)


async def test_a_refused_connection_is_tried_again(worker):
    verifier = InProcessVerifier(refuse_connects=3)
    events = await play(worker, verifier, patience=replace(PATIENCE, verifier_wait_s=20))
    check_ended(events, verifier)
    assert ids_of(events) == plain_tokens(job().sampling)


@pytest.mark.parametrize("full_at", [0, 3])
async def test_a_full_verifier_is_waited_for(worker, full_at):
    def full(n):
        if n == full_at and n > 0:
            return SessionLost("gone")
        return Overloaded("no place", retry_after_ms=1) if full_at <= n < full_at + 4 else None

    verifier = InProcessVerifier(fail=full)
    events = await play(worker, verifier, patience=replace(PATIENCE, verifier_wait_s=20))
    check_ended(events, verifier)
    assert ids_of(events) == plain_tokens(job().sampling)
    assert events[-1].reconnects == (1 if full_at else 0)


async def test_a_verifier_that_stays_full_is_a_failure(worker):
    verifier = InProcessVerifier(fail=lambda n: Overloaded("no place", retry_after_ms=1))
    events = await play(worker, verifier, patience=replace(PATIENCE, verifier_wait_s=0.2))
    assert [event.reason for event in events] == ["OVERLOADED"]


async def test_a_verifier_that_stays_away_is_a_failure_in_time(worker):
    verifier = InProcessVerifier(refuse_connects=10**6)
    began = time.monotonic()
    events = await play(worker, verifier, patience=replace(PATIENCE, verifier_wait_s=0.2))
    assert time.monotonic() - began < 5
    assert [type(event) for event in events] == [Failure]
    assert events[0].reason == "VERIFIER_UNAVAILABLE"


async def test_a_verifier_that_loses_every_block_is_given_up(worker):
    verifier = InProcessVerifier(fail=lambda n: SessionLost("gone") if n % 2 else None)
    events = await play(worker, verifier, patience=replace(PATIENCE, verifier_wait_s=0.2))
    check_ended(events, verifier)
    assert events[-1].reason == "SESSION_LOST"


async def test_a_verifier_that_falls_silent_counts_as_lost(worker):
    silent = InProcessVerifier(hold=asyncio.Event())
    events = await play(
        worker, silent, patience=replace(PATIENCE, verifier_wait_s=0.1, answer_s=0.05)
    )
    check_ended(events, silent)
    assert events[-1].reason == "SESSION_LOST"


async def test_a_refusal_is_not_tried_again(worker):
    verifier = InProcessVerifier(fail=lambda n: FingerprintMismatch("other numerics"))
    events = await play(worker, verifier)
    check_ended(events, verifier)
    assert events[-1].reason == "FINGERPRINT_MISMATCH"
    assert verifier.messages == 1


async def test_the_deadline_ends_the_request_and_frees_the_session(worker):
    verifier = InProcessVerifier(hold=asyncio.Event())
    verifier.hold.set()
    verifier.fail = lambda n: verifier.hold.clear() if n == 3 else None
    events = await play(
        worker, verifier, patience=replace(PATIENCE, verifier_wait_s=5, deadline_s=0.1)
    )
    check_ended(events, verifier)
    assert events[-1].reason == "DEADLINE_EXCEEDED"
    assert verifier.cancelled == ["r1"]
    assert ids_of(events) == plain_tokens(job().sampling)[: len(ids_of(events))]


async def test_cancelling_the_task_frees_the_session(worker):
    verifier = InProcessVerifier(hold=asyncio.Event())
    verifier.hold.set()
    reached = asyncio.Event()

    def stall(n):
        if n == 3:
            verifier.hold.clear()
            reached.set()

    verifier.fail = stall
    task = asyncio.create_task(play(worker, verifier))
    await asyncio.wait_for(reached.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert verifier.cancelled == ["r1"]
    assert verifier.open_links == 0


async def test_being_cancelled_at_any_moment_leaves_no_link(worker):
    """One more turn of the event loop each time, through the end of the request and its goodbye."""
    done, ticks = False, 0
    while not done:
        ticks += 1
        verifier = InProcessVerifier()
        session = make_session(None, wanted=job(sampling=SamplingParams(max_tokens=2)))
        task = asyncio.create_task(
            run_session(session, verifier, worker, _ignore, key="r1", patience=PATIENCE)
        )
        for _ in range(ticks):
            await asyncio.sleep(0)
        done = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert verifier.open_links == 0, f"cancelled after {ticks} turns"
    assert ticks > 8


async def _ignore(event):
    pass


async def test_what_emit_raises_comes_out_and_frees_the_session(worker):
    verifier = InProcessVerifier()

    async def full(event):
        if isinstance(event, Tokens):
            raise SessionLost("the receiver's own trouble")

    session = make_session(None)
    with pytest.raises(SessionLost, match="own trouble"):
        await run_session(session, verifier, worker, full, key="r1", patience=PATIENCE)
    assert verifier.opens == 1, "the receiver's error must not look like a lost verifier"
    assert verifier.cancelled == ["r1"]
    assert verifier.open_links == 0


class BrokenLadder:
    """A ladder whose engine has died."""

    tiers = ("tiny",)

    def __init__(self, error=None):
        self.error = error

    def propose(self, prefix, k):
        raise self.error

    def close(self):
        """Nothing to free."""


class EmptyLadder(BrokenLadder):
    """A ladder that never has an idea."""

    def propose(self, prefix, k):
        return Proposal()


@pytest.mark.parametrize(
    "ladder",
    [
        BrokenLadder(EngineFailure("no memory")),
        BrokenLadder(KeyError("a bug")),
        EmptyLadder(),
        None,
    ],
)
async def test_without_useful_drafts_the_target_goes_on_alone(worker, ladder):
    verifier = InProcessVerifier()
    events = []

    async def emit(event):
        events.append(event)

    await run_session(make_session(ladder), verifier, worker, emit, key="r1", patience=PATIENCE)
    check_ended(events, verifier)
    assert ids_of(events) == plain_tokens(job().sampling)
    assert events[-1].plain_tokens == len(ids_of(events))
    assert events[-1].finish_reason is FinishReason.LENGTH
