"""Router and drafter together: the same stream in one process and over Redis and gRPC."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

import hola_router.app
from hola.errors import DeadlineExceeded, DuplicateRequest, UnknownRequest
from hola.rpc.router_client import RouterClient
from hola.types import (
    ChatMessage,
    FinishReason,
    GenerateJob,
    SamplingParams,
    SpeculationParams,
    Started,
    Summary,
    Tokens,
)
from tests.support.scripted_system import ids_of, text_of, tokens_of
from tests.support.system import (
    MODEL,
    PROMPT,
    WIRINGS,
    collect,
    request,
    running_system,
    terminal,
    without_times,
)
from tests.support.verifier import eventually, reference

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def database(start_redis):
    """A redis-server of this module's own."""
    return start_redis().url


@pytest.fixture(params=WIRINGS)
async def system(request, tmp_path, database):
    async with running_system(request.param, tmp_path, database) as running:
        yield running


def expected_ids(system, wanted):
    return reference(
        system.engine, wanted.sampling.max_tokens, wanted.sampling, tuple(PROMPT.encode())
    )


async def test_the_stream_is_the_targets_own_text(system):
    wanted = request()
    events = await collect(system.client.generate(wanted))
    assert isinstance(events[0], Started)
    assert ids_of(events) == expected_ids(system, wanted)
    summary = terminal(events)
    assert isinstance(summary, Summary)
    assert summary.finish_reason is FinishReason.LENGTH
    assert summary.completion_tokens == 40
    assert summary.accepted_tokens > 0
    await eventually(lambda: system.sessions_left == 0, "the verifier freed the session")


async def test_both_wirings_give_the_same_events(tmp_path, database):
    streams = []
    for wiring in WIRINGS:
        folder = tmp_path / wiring
        folder.mkdir()
        async with running_system(wiring, folder, database) as system:
            streams.append(without_times(await collect(system.client.generate(request()))))
    assert streams[0] == streams[1]


async def test_a_client_resumes_at_every_position(system):
    events = await collect(system.client.generate(request()))
    whole = tokens_of(events)
    for position in range(len(whole) + 1):
        again = await collect(system.client.resume("r1", position))
        tokens = [event for event in again if isinstance(event, Tokens)]
        rest = [token for event in tokens for token in event.tokens]
        assert whole[:position] + rest == whole, f"resumed at {position}"
        if tokens:
            assert tokens[0].position == position
        assert terminal(again) == terminal(events)


async def test_a_client_that_drops_in_mid_stream_gets_the_rest(system):
    for dropped_after in range(1, 9):
        wanted = request(f"drop-{dropped_after}")
        head = []
        async with aclosing(system.client.generate(wanted)) as events:
            async for event in events:
                head.append(event)
                if len(head) == dropped_after:
                    break
        received = tokens_of(head)
        tail = await collect(system.client.resume(wanted.request_id, len(received)))
        rest = [t for event in tail if isinstance(event, Tokens) for t in event.tokens]
        got = [token.token for token in (*received, *rest)]
        assert got == expected_ids(system, wanted), f"dropped after {dropped_after} events"
        assert terminal(tail).finish_reason is FinishReason.LENGTH


async def test_cancel_ends_the_stream_and_frees_the_session(system):
    wanted = request(sampling=SamplingParams(max_tokens=3000))
    seen = []
    async with aclosing(system.client.generate(wanted)) as events:
        async for event in events:
            seen.append(event)
            if len(seen) == 3:
                assert await system.client.cancel("r1")
    summary = terminal(seen)
    assert summary.finish_reason is FinishReason.CANCELLED
    assert summary.completion_tokens == len(tokens_of(seen)) < 3000
    await eventually(lambda: system.sessions_left == 0, "the verifier freed the session")
    assert not await system.client.cancel("r1"), "it has ended already"
    await eventually_acked(system)


async def eventually_acked(system):
    async with asyncio.timeout(10):
        while await system.bus.jobs.depth():  # noqa: ASYNC110 - the other side is a socket
            await asyncio.sleep(0.01)


async def test_a_request_nobody_watches_is_given_up_after_the_grace(system):
    wanted = request(sampling=SamplingParams(max_tokens=3000))
    async with aclosing(system.client.generate(wanted)) as events:
        async for event in events:
            if isinstance(event, Tokens):
                system.engine.hold()
                break
    async with asyncio.timeout(30):
        while not await system.bus.journal.has_ended("r1"):  # noqa: ASYNC110 - the other side is a socket
            await asyncio.sleep(0.05)
    system.engine.release()
    events = await collect(system.client.resume("r1"))
    assert terminal(events).finish_reason is FinishReason.CANCELLED
    await eventually(lambda: system.sessions_left == 0, "the verifier freed the session")


async def test_a_client_back_within_the_grace_keeps_its_request(system):
    wanted = request(sampling=SamplingParams(max_tokens=60))
    async with aclosing(system.client.generate(wanted)) as events:
        async for event in events:
            if isinstance(event, Tokens):
                system.engine.hold()
                break
    resumed = asyncio.create_task(collect(system.client.resume("r1")))
    await asyncio.sleep(1.3)
    system.engine.release()
    assert terminal(await resumed).finish_reason is FinishReason.LENGTH


async def test_a_client_may_come_back_to_another_router(tmp_path, database):
    async with running_system("redis", tmp_path, database) as system:
        at_other = {"listen": f"unix://{tmp_path}/other.sock"}
        other = hola_router.app.build(system.settings.model_copy(update=at_other))
        await other.start()
        second = RouterClient(other.address, system.settings)
        wanted = request(sampling=SamplingParams(max_tokens=60))
        async with aclosing(system.client.generate(wanted)) as events:
            async for event in events:
                if isinstance(event, Tokens):
                    system.engine.hold()
                    break
        resumed = asyncio.create_task(collect(second.resume("r1")))
        await asyncio.sleep(1.5)  # more than the grace of the router that lost the client
        system.engine.release()
        assert terminal(await resumed).finish_reason is FinishReason.LENGTH
        await second.close()
        await other.stop()


async def test_the_deadline_is_a_failure_and_frees_the_session(system):
    wanted = request(sampling=SamplingParams(max_tokens=3000))
    outcome = []
    try:
        async for event in system.client.generate(wanted, timeout_s=0.5):
            outcome.append(event)
            if len(outcome) == 2:
                system.engine.hold()
    except DeadlineExceeded as error:  # over gRPC the status comes before the event
        outcome.append(error)
    assert outcome[-1].reason == "DEADLINE_EXCEEDED"
    system.engine.release()
    await eventually(lambda: system.sessions_left == 0, "the verifier freed the session")
    await eventually_acked(system)


async def test_a_taken_request_id_is_refused(system):
    await collect(system.client.generate(request()))
    with pytest.raises(DuplicateRequest):
        await collect(system.client.generate(request(prompt="Another one.")))


async def test_an_unknown_request_is_not_found(system):
    with pytest.raises(UnknownRequest):
        await collect(system.client.resume("never-was"))
    with pytest.raises(UnknownRequest):
        await system.client.cancel("never-was")


async def test_many_requests_at_once_do_not_mix(system):
    wanted = [
        request(f"many-{n}", sampling=SamplingParams(max_tokens=30, temperature=1.0, seed=n))
        for n in range(12)
    ]
    streams = await asyncio.gather(*(collect(system.client.generate(each)) for each in wanted))
    for each, events in zip(wanted, streams, strict=True):
        assert ids_of(events) == expected_ids(system, each), each.request_id
        terminal(events)


async def test_router_and_direct_drafter_agree(system):
    wanted = request()
    routed = await collect(system.client.generate(wanted))
    job = GenerateJob(
        request_id="direct",
        model=MODEL,
        prompt=PROMPT,
        sampling=wanted.sampling,
        speculation=wanted.speculation,
    )
    direct = await collect(system.drafter.generate(job))
    assert tokens_of(direct) == tokens_of(routed)
    assert text_of(direct) == text_of(routed)
    assert replace(direct[0], request_id="r1") == routed[0]


async def test_a_conversation_needs_a_chat_template(system):
    turns = (ChatMessage(role="user", content="How many apples?"),)
    with pytest.raises(Exception, match="chat template"):
        await collect(system.client.generate(request(prompt="", messages=turns)))


@pytest.mark.parametrize(
    "speculation",
    [
        SpeculationParams(),
        SpeculationParams(max_draft_tokens=0),
        SpeculationParams(ladder=()),
        SpeculationParams(ladder=("lookup",)),
        SpeculationParams(ladder=("small",), max_draft_tokens=12),
    ],
    ids=["adaptive", "k=0", "no ladder", "lookup", "small"],
)
async def test_no_way_of_drafting_changes_the_text(system, speculation):
    wanted = request(speculation=speculation)
    events = await collect(system.client.generate(wanted))
    assert ids_of(events) == expected_ids(system, wanted)
    ladder = speculation.ladder
    if ladder is not None:
        assert events[0].tiers[:-1] == ladder
