"""The router's use case on an in-memory bus: what is queued, what is refused, who is given up."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from dataclasses import replace

import pytest

from hola.bus.memory import MemoryBus
from hola.errors import (
    BusUnavailable,
    DuplicateRequest,
    EmptyPrompt,
    InvalidRequest,
    InvalidSampling,
    UnknownModel,
    UnknownRequest,
)
from hola.models.store import ModelStore
from hola.telemetry import Metrics
from hola.types import (
    ChatMessage,
    Exactness,
    FinishReason,
    GenerateRequest,
    JournalEntry,
    Outcome,
    RetrievalPlan,
    SamplingParams,
    SpeculationParams,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)
from hola_router.attachments import Attachments
from hola_router.catalogue import Catalogue
from hola_router.generate import Router, cut

MODEL = "scripted:seed=7"
NOW = 1_000_000_000_000
REQUEST = GenerateRequest(request_id="r1", prompt="Hello")
STARTED = Started(
    request_id="r1",
    model=MODEL,
    tiers=("target",),
    fingerprint="",
    exactness=Exactness.EXACT,
    prompt_tokens=5,
)
SUMMARY = Summary(finish_reason=FinishReason.LENGTH, prompt_tokens=5, completion_tokens=6)


def tokens(position, count):
    return Tokens(
        position=position,
        tokens=tuple(
            TokenEvent(token=at, text=str(at), tier=0, outcome=Outcome.PLAIN)
            for at in range(position, position + count)
        ),
    )


EVENTS = [STARTED, tokens(0, 1), tokens(1, 3), tokens(4, 2), SUMMARY]


@pytest.fixture
def bus():
    return MemoryBus()


@pytest.fixture
async def router(bus, tmp_path):
    router = make_router(bus, tmp_path)
    yield router
    await router.close()


def make_router(bus, folder, *, grace_s=1000.0, metrics=None):
    return Router(
        bus=bus,
        catalogue=Catalogue(ModelStore(folder), MODEL),
        detach_grace_s=grace_s,
        metrics=metrics,
        clock=lambda: NOW,
    )


async def write(bus, events):
    for event in events:
        await bus.journal.append("r1", JournalEntry(event=event, writer="d"))


async def test_an_accepted_request_is_a_job(router, bus):
    accepted = await router.accept(REQUEST, timeout_s=2.5)
    assert (accepted.depth, accepted.job.plan) == (RetrievalPlan.NONE, None)
    delivery = await bus.jobs.take("d", timeout_s=1)
    assert delivery.job == accepted.job
    assert delivery.job.model == MODEL
    assert delivery.job.prompt == "Hello"
    assert delivery.job.accepted_unix_ns == NOW
    assert delivery.job.deadline_unix_ns == NOW + 2_500_000_000


async def test_a_request_without_id_gets_one_and_no_deadline(router):
    accepted = await router.accept(replace(REQUEST, request_id=""))
    assert re.fullmatch("[0-9a-f]{32}", accepted.job.request_id)
    assert accepted.job.deadline_unix_ns == 0


TURNS = (ChatMessage(role="user", content="Hi"),)
BAD = [
    (replace(REQUEST, model="nope"), UnknownModel),
    (replace(REQUEST, prompt=""), EmptyPrompt),
    (replace(REQUEST, messages=TURNS), InvalidRequest),
    (replace(REQUEST, request_id="a/b"), InvalidRequest),
    (replace(REQUEST, request_id="x" * 129), InvalidRequest),
    (replace(REQUEST, sampling=SamplingParams(temperature=float("nan"))), InvalidSampling),
    (replace(REQUEST, sampling=SamplingParams(seed=2**63)), InvalidSampling),
    (replace(REQUEST, sampling=SamplingParams(max_tokens=0)), InvalidSampling),
    (replace(REQUEST, speculation=SpeculationParams(max_draft_tokens=65)), InvalidRequest),
]


@pytest.mark.parametrize(("request_", "error"), BAD)
async def test_a_bad_request_is_refused_before_it_is_queued(router, bus, request_, error):
    with pytest.raises(error):
        await router.accept(request_)
    assert await bus.jobs.depth() == 0


async def test_an_id_can_be_used_once(router):
    await router.accept(REQUEST)
    with pytest.raises(DuplicateRequest):
        await router.accept(REQUEST)


async def test_the_plan_comes_with_the_first_event(router, bus):
    accepted = await router.accept(REQUEST)
    await write(bus, EVENTS)
    got = [pair async for pair in router.attach(accepted)]
    assert [event for event, _ in got] == EVENTS
    assert [plan for _, plan in got] == [RetrievalPlan.NONE, None, None, None, None]


@pytest.mark.parametrize("position", range(7))
async def test_resume_cuts_what_the_client_has(router, bus, position):
    await router.accept(REQUEST)
    await write(bus, EVENTS)
    got = [event async for event in router.resume("r1", position)]
    assert got[0] == STARTED
    assert got[-1] == SUMMARY
    ids = [token.token for event in got[1:-1] for token in event.tokens]
    assert ids == list(range(position, 6))


async def test_resume_past_the_end_says_so(router, bus):
    await router.accept(REQUEST)
    await write(bus, EVENTS)
    with pytest.raises(InvalidRequest, match="position 7"):
        [event async for event in router.resume("r1", 7)]


async def test_unknown_requests_are_not_found(router):
    with pytest.raises(UnknownRequest):
        [event async for event in router.resume("nobody")]
    with pytest.raises(UnknownRequest):
        await router.cancel("nobody")


async def detach_in_mid_stream(router, bus, *, timeout_s=None):
    """Attach, read one event, hang up."""
    accepted = await router.accept(REQUEST, timeout_s=timeout_s)
    await write(bus, EVENTS[:2])
    async with aclosing(router.attach(accepted)) as events:
        await anext(events)
    await settle()


async def test_without_grace_a_detached_request_is_cancelled(bus, tmp_path):
    router = make_router(bus, tmp_path, grace_s=0.0)
    await detach_in_mid_stream(router, bus)
    events = [event async for event in router.resume("r1")]
    assert events[-1].finish_reason is FinishReason.CANCELLED
    await router.close()


async def test_a_deadline_that_passed_cancels_at_once(router, bus):
    await detach_in_mid_stream(router, bus, timeout_s=0.0)
    events = [event async for event in router.resume("r1")]
    assert events[-1].finish_reason is FinishReason.CANCELLED


async def test_who_leaves_before_the_stream_begins_has_left(bus, tmp_path):
    """The call is cancelled with the publication on its way."""
    router, publish, sent = (
        make_router(bus, tmp_path, grace_s=0.0),
        bus.jobs.publish,
        asyncio.Event(),
    )

    async def slow(job):
        await publish(job)
        sent.set()
        await asyncio.Event().wait()

    bus.jobs.publish = slow
    accepting = asyncio.create_task(router.accept(REQUEST))
    await sent.wait()
    accepting.cancel()
    await asyncio.gather(accepting, return_exceptions=True)
    await asyncio.wait_for(ended(bus, "r1"), 10)
    await router.close()


async def ended(bus, request_id):
    while not await bus.journal.has_ended(request_id):  # noqa: ASYNC110 - the router ends it
        await asyncio.sleep(0)


async def test_within_the_grace_nothing_is_cancelled(router, bus):
    await detach_in_mid_stream(router, bus)
    await write(bus, EVENTS[2:])
    events = [event async for event in router.resume("r1")]
    assert events == EVENTS


class Watched:
    """A journal that counts what was given up."""

    def __init__(self):
        self.cancelled = []
        self.notes = []
        self.attended_elsewhere = False

    async def cancel(self, request_id):
        self.cancelled.append(request_id)
        return True

    async def attend(self, request_id, for_s):
        self.notes.append((request_id, for_s))

    async def is_attended(self, request_id):
        return self.attended_elsewhere


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_last_stream_out_starts_the_clock():
    journal = Watched()
    attachments = Attachments(journal, grace_s=0.0)
    with attachments.attach("r1"):
        with attachments.attach("r1"):
            assert attachments.active_requests == 1
        await settle()
        assert journal.cancelled == []
    assert attachments.active_requests == 0
    await settle()
    assert journal.cancelled == ["r1"]


async def test_coming_back_stops_the_clock():
    journal = Watched()
    attachments = Attachments(journal, grace_s=0.0)
    with attachments.attach("r1"):
        pass
    with attachments.attach("r1") as again:
        await settle()
        assert journal.cancelled == []
        again.ended = True
    await settle()
    assert journal.cancelled == []


async def test_a_stream_that_saw_the_end_gives_nothing_up():
    journal = Watched()
    attachments = Attachments(journal, grace_s=0.0)
    with attachments.attach("r1") as stream:
        stream.ended = True
    await settle()
    assert journal.cancelled == []


async def test_closing_forgets_the_clocks():
    journal = Watched()
    attachments = Attachments(journal, grace_s=0.0)
    with attachments.attach("r1"):
        pass
    await attachments.close()
    await settle()
    assert journal.cancelled == []


async def test_other_routers_are_told_and_asked():
    journal = Watched()
    attachments = Attachments(journal, grace_s=0.002)
    with attachments.attach("r1"):
        await asyncio.wait_for(until(lambda: len(journal.notes) >= 2), 10)
        journal.attended_elsewhere = True
    assert set(journal.notes) == {("r1", 0.002)}
    await asyncio.sleep(0.02)
    assert journal.cancelled == [], "a client is attached at another router"
    journal.attended_elsewhere = False
    await asyncio.wait_for(until(lambda: journal.cancelled == ["r1"]), 10)


async def until(condition):
    while not condition():  # noqa: ASYNC110 - a task of the object under test changes it
        await asyncio.sleep(0)


async def test_a_request_that_cannot_be_given_up_is_only_logged():
    journal = Watched()

    async def unknown(request_id):
        raise UnknownRequest("expired")

    journal.cancel = unknown
    attachments = Attachments(journal, grace_s=0.0)
    with attachments.attach("r1"):
        pass
    await settle()
    await attachments.close()


async def test_giving_up_is_tried_until_the_bus_is_back():
    journal, cancel, tries = Watched(), Watched.cancel, []

    async def away(request_id):
        tries.append(request_id)
        if len(tries) < 3:
            raise BusUnavailable("away")
        return await cancel(journal, request_id)

    journal.cancel = away
    attachments = Attachments(journal, grace_s=0.0)
    with attachments.attach("r1"):
        pass
    await asyncio.wait_for(until(lambda: journal.cancelled == ["r1"]), 20)
    assert len(tries) == 3
    await attachments.close()


def test_cut_leaves_events_without_tokens_alone():
    assert cut(STARTED, 9) is STARTED
    assert cut(SUMMARY, 9) is SUMMARY
    assert cut(tokens(4, 2), 4) == tokens(4, 2)
    assert cut(tokens(4, 2), 5) == tokens(5, 1)
    assert cut(tokens(4, 2), 6) is None


async def test_info_lists_the_scripted_default(router):
    info = await router.info()
    assert info.default_model == MODEL
    assert [model.name for model in info.models] == [MODEL]


async def test_requests_are_counted_by_how_they_ended(bus, tmp_path):
    metrics = Metrics()
    router = make_router(bus, tmp_path, metrics=metrics)
    accepted = await router.accept(REQUEST)
    await write(bus, EVENTS)
    with pytest.raises(DuplicateRequest):
        await router.accept(REQUEST)
    counted = metrics.registry.get_sample_value
    active = {"service": "router"}
    async with aclosing(router.attach(accepted)) as events:
        await anext(events)
        assert counted("hola_num_requests_running", active) == 1
        _ = [event async for event in events]
    assert counted("hola_num_requests_running", active) == 0
    assert counted("hola_requests_total", {**active, "outcome": "length"}) == 1
    assert counted("hola_requests_total", {**active, "outcome": "duplicate_request"}) == 1
    _ = [event async for event in router.resume("r1")]
    assert counted("hola_requests_total", {**active, "outcome": "length"}) == 1, "counted twice"
    async with aclosing(router.attach(accepted)) as events:
        await anext(events)
    assert counted("hola_requests_total", {**active, "outcome": "detached"}) == 1
    await router.close()


def test_an_unknown_default_is_refused(tmp_path):
    with pytest.raises(UnknownModel):
        Catalogue(ModelStore(tmp_path), "demo")
