"""Outage policies in the session loop: fail at once, or go on alone and be verified afterwards."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

import pytest
from structlog.testing import capture_logs

from hola.engines.scripted import ScriptedTokenizer
from hola.engines.worker import EngineWorker
from hola.errors import FingerprintMismatch, SessionLost, SessionMoved
from hola.speculation.drafter_session import DrafterSession
from hola.speculation.pacing import FixedPacing
from hola.telemetry import Metrics
from hola.transcript import Transcript
from hola.types import (
    Correction,
    Exactness,
    Failure,
    GenerateEvent,
    GenerateJob,
    Outage,
    Outcome,
    SamplingParams,
    SpeculationParams,
    Started,
    Summary,
    Tokens,
)
from hola_drafter.caches import DraftCaches
from hola_drafter.loop import run_session
from hola_drafter.patience import Patience
from tests.support.drafter_world import FarVerifier as Verifier, lose_at
from tests.support.scripted_system import (
    TARGET,
    TIERS,
    InProcessVerifier,
    draft_model,
    job,
    plain_tokens,
)

LOCAL = SpeculationParams(outage=Outage.LOCAL)
FAIL = SpeculationParams(outage=Outage.FAIL)
# What must not be waited for would show as a test that hangs.
PATIENCE = Patience(verifier_wait_s=60, hang_up_s=0.05, local_after_s=0.0)
ENDS_S = 30


@pytest.fixture
async def worker():
    worker = EngineWorker("test")
    yield worker
    await worker.close()


@dataclass
class Client:
    """Receives the events; sets `then` after so many unverified tokens, or at the text's end."""

    events: list[GenerateEvent] = field(default_factory=list)
    after: int = 0
    then: asyncio.Event | None = None

    async def __call__(self, event: GenerateEvent) -> None:
        self.events.append(event)
        enough = self.unverified >= self.after or self.transcript.position == 40
        if self.then is not None and enough:
            self.then.set()

    @property
    def unverified(self) -> int:
        return sum(
            token.outcome is Outcome.UNVERIFIED
            for event in self.events
            if isinstance(event, Tokens)
            for token in event.tokens
        )

    @property
    def transcript(self) -> Transcript:
        transcript = Transcript()
        for event in self.events:
            transcript.note(event)
        return transcript

    @property
    def ids(self) -> list[int]:
        return [token.token for token in self.transcript.tokens]


async def play(
    worker: EngineWorker,
    verifier: InProcessVerifier,
    client: Client,
    speculation: SpeculationParams = LOCAL,
    *,
    wanted: GenerateJob | None = None,
    patience: Patience = PATIENCE,
) -> None:
    """One request with the whole ladder, within a bound."""
    wanted = replace(wanted or job(), speculation=speculation)
    model = draft_model()
    names = model.tiers if speculation.ladder is None else speculation.ladder
    caches = DraftCaches(model.engines, names, wanted, 64, Metrics())
    ladder = caches.open()
    session = DrafterSession(
        wanted,
        prompt=tuple(ScriptedTokenizer().encode(wanted.prompt)),
        model="scripted",
        ladder=ladder,
        pacing=FixedPacing(4),
        tokenizer=ScriptedTokenizer(),
        target_name="target",
        context_length_of_drafts=4096,
        clock=time.perf_counter_ns,
        writer=None if ladder is None else ladder.writer,
        eos_of_drafts=caches.eos_token_ids,
    )
    try:
        async with asyncio.timeout(ENDS_S):
            await run_session(session, verifier, worker, client, key="r1", patience=patience)
    finally:
        caches.close()


def check_ended(client: Client, verifier: InProcessVerifier) -> None:
    ends = [event for event in client.events if isinstance(event, Summary | Failure)]
    assert ends == client.events[-1:]
    assert verifier.open_links == 0
    assert len(asyncio.all_tasks()) == 1, "a task was left behind"


class TestLocal:
    @pytest.mark.parametrize("written", [1, 9, 40])
    async def test_whenever_it_goes_and_comes_back_the_text_is_the_target_s(self, worker, written):
        expected = plain_tokens(job().sampling)
        whole = Verifier()
        await play(worker, whole, Client())
        corrected = 0
        for lost_at in range(whole.messages):
            verifier = lose_at(Verifier(), lost_at)
            client = Client(after=written, then=verifier.back)
            await play(worker, verifier, client)
            check_ended(client, verifier)
            assert client.ids == expected, f"lost at {lost_at}, back after {written}"
            summary = client.events[-1]
            assert isinstance(summary, Summary)
            assert summary.exactness is Exactness.EXACT
            assert summary.unverified_tokens == 0
            assert client.unverified > 0
            assert summary.corrections == 1
            corrected += any(isinstance(event, Correction) for event in client.events)
        assert corrected == whole.messages

    async def test_it_writes_what_its_best_tier_would_and_says_so(self, worker):
        verifier = Verifier(refuse_connects=10**6)
        client = Client()
        patience = replace(PATIENCE, verifier_wait_s=0.1)
        await play(worker, verifier, client, patience=patience)
        check_ended(client, verifier)
        assert client.ids == plain_tokens(job().sampling, target=TIERS["small"])
        started, summary = client.events[0], client.events[-1]
        assert isinstance(started, Started)
        assert isinstance(summary, Summary)
        assert (started.exactness, started.fingerprint) == (Exactness.UNVERIFIED, "")
        assert summary.exactness is Exactness.UNVERIFIED
        assert summary.unverified_tokens == summary.completion_tokens == 40
        assert sum(tier.accepted_tokens for tier in summary.tiers) == 40

    async def test_a_short_absence_is_waited_out(self, worker):
        verifier = Verifier(fail=lambda n: SessionLost("gone") if n == 3 else None)
        client = Client()
        await play(worker, verifier, client, patience=replace(PATIENCE, local_after_s=60))
        check_ended(client, verifier)
        assert client.ids == plain_tokens(job().sampling)
        assert client.unverified == 0

    async def test_a_verifier_that_works_on_the_prompt_is_waited_for(self, worker):
        verifier = Verifier(hold=asyncio.Event())
        verifier.hold.set()

        def fail(message: int) -> SessionLost | None:
            if message == 3:  # the next one is an Open: its answer takes a while
                verifier.hold.clear()
                asyncio.get_running_loop().call_later(0.3, verifier.hold.set)
            return SessionLost("gone") if message == 2 else None

        verifier.fail = fail
        client = Client()
        await play(worker, verifier, client, patience=replace(PATIENCE, local_after_s=0.05))
        check_ended(client, verifier)
        assert client.ids == plain_tokens(job().sampling)
        assert client.unverified == 0

    @pytest.mark.parametrize("ladder", [(), ("lookup",)])
    async def test_without_an_engine_it_waits(self, worker, ladder):
        verifier = Verifier(refuse_connects=10**6)
        client = Client()
        await play(
            worker,
            verifier,
            client,
            replace(LOCAL, ladder=ladder),
            patience=replace(PATIENCE, verifier_wait_s=0.1),
        )
        check_ended(client, verifier)
        assert [getattr(event, "reason", "") for event in client.events] == ["VERIFIER_UNAVAILABLE"]

    async def test_a_deadline_ends_the_wait_of_a_complete_text(self, worker):
        verifier = lose_at(Verifier(), 2)
        client = Client()
        await play(worker, verifier, client, patience=replace(PATIENCE, deadline_s=2.0))
        check_ended(client, verifier)
        assert isinstance(client.events[-1], Summary)
        assert client.events[-1].exactness is Exactness.UNVERIFIED

    async def test_a_deadline_in_mid_text_is_a_failure(self, worker):
        verifier = lose_at(Verifier(), 0)
        client = Client()
        endless = job(sampling=SamplingParams(max_tokens=3500, temperature=0.7, seed=11))
        await play(
            worker, verifier, client, wanted=endless, patience=replace(PATIENCE, deadline_s=0.05)
        )
        check_ended(client, verifier)
        assert getattr(client.events[-1], "reason", "") == "DEADLINE_EXCEEDED"

    async def test_a_verifier_that_loses_every_block_does_not_keep_it_for_ever(self, worker):
        verifier = Verifier(fail=lambda n: SessionLost("gone") if n % 2 else None)
        client = Client()
        await play(worker, verifier, client, patience=replace(PATIENCE, verifier_wait_s=0.3))
        check_ended(client, verifier)
        summary = client.events[-1]
        assert isinstance(summary, Summary)
        assert summary.exactness is Exactness.UNVERIFIED
        assert verifier.opens < 50, "pauses have to grow"

    async def test_a_refusal_by_the_next_verifier_ends_it(self, worker):
        verifier = lose_at(Verifier(), 2)
        client = Client(after=8, then=verifier.back)
        lost = verifier.fail

        def fail(message: int) -> SessionLost | FingerprintMismatch | None:
            return FingerprintMismatch("other numerics") if message > 2 else lost(message)

        verifier.fail = fail
        await play(worker, verifier, client)
        check_ended(client, verifier)
        assert getattr(client.events[-1], "reason", "") == "FINGERPRINT_MISMATCH"

    async def test_being_cancelled_at_any_moment_leaves_nothing(self, worker):
        done, ticks = False, 0
        short = job(sampling=SamplingParams(max_tokens=6))
        while not done:
            ticks += 3
            verifier = lose_at(Verifier(), 1)
            client = Client(after=6, then=verifier.back)
            task = asyncio.create_task(play(worker, verifier, client, wanted=short))
            for _ in range(ticks):
                await asyncio.sleep(0)
            done = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert verifier.open_links == 0, f"cancelled after {ticks} turns"
            assert len(asyncio.all_tasks()) == 1, f"cancelled after {ticks} turns"
        assert ticks > 20

    async def test_what_the_receiver_raises_comes_out(self, worker):
        verifier = lose_at(Verifier(), 1)

        class Full(Client):
            async def __call__(self, event: GenerateEvent) -> None:
                if isinstance(event, Tokens):
                    raise SessionLost("the receiver's own trouble")

        with pytest.raises(SessionLost, match="own trouble"):
            await play(worker, verifier, Full())
        assert verifier.open_links == 0
        assert len(asyncio.all_tasks()) == 1


class TestFail:
    async def test_at_the_first_connection(self, worker):
        verifier, client = Verifier(refuse_connects=10**6), Client()
        await play(worker, verifier, client, FAIL)
        check_ended(client, verifier)
        assert [getattr(event, "reason", "") for event in client.events] == ["VERIFIER_UNAVAILABLE"]
        assert verifier.connects == 1

    async def test_a_connection_that_hangs(self, worker):
        verifier, client = Verifier(), Client()
        verifier.back.clear()
        await play(worker, verifier, client, FAIL, patience=replace(PATIENCE, at_once_s=0.05))
        check_ended(client, verifier)
        assert getattr(client.events[-1], "reason", "") == "VERIFIER_UNAVAILABLE"

    async def test_another_verifier_is_tried_once(self, worker):
        verifier, client = Verifier(), Client()
        verifier.fail = lambda n: SessionLost("gone") if n in (2, 5) else None
        await play(worker, verifier, client, FAIL)
        check_ended(client, verifier)
        assert client.ids == plain_tokens(job().sampling)
        assert client.events[-1].reconnects == 2

    @pytest.mark.parametrize("again", [3, 4])
    async def test_when_the_next_one_is_lost_as_well(self, worker, again):
        """Message 3 opens it again, message 4 is its first block."""
        verifier, client = Verifier(), Client()
        verifier.fail = lambda n: SessionLost("gone") if n in (2, again) else None
        await play(worker, verifier, client, FAIL)
        check_ended(client, verifier)
        assert getattr(client.events[-1], "reason", "") == "VERIFIER_UNAVAILABLE"
        assert client.ids == plain_tokens(job().sampling)[: len(client.ids)]


class TestMoved:
    async def test_a_session_is_moved_without_a_pause_or_a_warning(self, worker):
        verifier, client = Verifier(), Client()
        verifier.fail = lambda n: SessionMoved("drains") if n in (2, 3, 4) else None
        with capture_logs() as logs:
            await play(worker, verifier, client, SpeculationParams())
        check_ended(client, verifier)
        assert client.ids == plain_tokens(job().sampling)
        assert client.events[-1].reconnects == 1
        assert [log["log_level"] for log in logs if log["event"] == "verifier_lost"] == ["info"] * 3

    @pytest.mark.parametrize(
        ("outage", "reason"),
        [(Outage.WAIT, "SESSION_MOVED"), (Outage.FAIL, "VERIFIER_UNAVAILABLE")],
    )
    async def test_where_all_drain_it_ends(self, worker, outage, reason):
        verifier, client = Verifier(fail=lambda n: SessionMoved("drains")), Client()
        await play(
            worker,
            verifier,
            client,
            SpeculationParams(outage=outage),
            patience=replace(PATIENCE, verifier_wait_s=0.3),
        )
        check_ended(client, verifier)
        assert getattr(client.events[-1], "reason", "") == reason
        assert verifier.messages < 50


def test_the_script_is_what_these_tests_need() -> None:
    """The best tier's own text differs from the target's, or nothing would be corrected."""
    sampling = job().sampling
    assert plain_tokens(sampling, target=TIERS["small"]) != plain_tokens(sampling, target=TARGET)
