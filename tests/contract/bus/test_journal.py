"""Journals: one writer at a time gets through, followers see it all, nothing follows the end."""

from __future__ import annotations

import asyncio

import pytest

from hola.bus.ports import Bus
from hola.errors import BusUnavailable, Fenced, Overloaded, ProtocolViolation, UnknownRequest
from hola.types import FinishReason, Outcome, Summary, Tokens
from tests.support.bus import (
    PATIENCE_S,
    Backend,
    by,
    failure,
    followed,
    job,
    started,
    summary,
    token_ids,
    tokens,
)

STORY = [started(), tokens(0, 3), tokens(3), tokens(4, 2), summary(6)]


async def published(backend: Backend, **limits: float) -> Bus:
    bus = backend.bus(**limits)
    await bus.jobs.publish(job())
    return bus


async def write(bus: Bus, writer: str, *events: object) -> None:
    for event in events:
        await bus.journal.append("r1", by(writer, event))  # type: ignore[arg-type]


async def test_what_is_written_is_read(backend: Backend) -> None:
    bus = await published(backend)
    assert await bus.journal.read("r1") == []
    await write(bus, "a", *STORY)
    assert await bus.journal.read("r1") == [by("a", event) for event in STORY]
    assert await bus.journal.read("other") == []


async def test_followers_get_all_of_it_whenever_they_come(backend: Backend) -> None:
    bus = await published(backend)
    early = [asyncio.create_task(followed(bus)) for _ in range(3)]
    await write(bus, "a", *STORY[:2])
    await asyncio.sleep(0)
    between = asyncio.create_task(followed(backend.bus()))
    await write(bus, "a", *STORY[2:])
    late = await followed(bus)
    everyone = [*await asyncio.gather(*early, between), late]
    assert everyone == [[by("a", event) for event in STORY]] * 5


async def test_many_journals_are_followed_side_by_side(backend: Backend) -> None:
    bus = backend.bus()
    names = [f"r{number}" for number in range(20)]
    for name in names:
        await bus.jobs.publish(job(name))
    following = [asyncio.create_task(followed(bus, name)) for name in names]
    for event in STORY[1:]:
        for name in names:
            await bus.journal.append(name, by(name, event))
    for name, entries in zip(names, await asyncio.gather(*following), strict=True):
        assert {entry.writer for entry in entries} == {name}
        assert token_ids(entries) == list(range(6))


async def test_a_slow_follower_loses_nothing(backend: Backend) -> None:
    count = 600  # several chunks of the catching up
    bus = await published(backend, follower_buffer=2)
    await write(bus, "a", started())
    entries = []
    async with asyncio.timeout(PATIENCE_S):
        async for entry in bus.journal.follow("r1"):
            entries.append(entry)
            if len(entries) == 1:
                await write(bus, "a", *[tokens(position) for position in range(count)])
                await write(bus, "a", summary(count))
    assert token_ids(entries) == list(range(count))
    assert isinstance(entries[-1].event, Summary)


async def test_a_follower_may_leave_in_the_middle(backend: Backend) -> None:
    bus = await published(backend)
    await write(bus, "a", *STORY[:2])
    async with asyncio.timeout(PATIENCE_S):
        async for entry in bus.journal.follow("r1"):
            assert entry == by("a", STORY[0])
            break
    await write(bus, "a", *STORY[2:])
    assert token_ids(await followed(bus)) == list(range(6))


async def test_following_what_was_never_published_is_an_error(backend: Backend) -> None:
    with pytest.raises(UnknownRequest):
        await followed(backend.bus(), "never")


async def test_writing_or_cancelling_what_was_never_published_is_an_error(backend: Backend) -> None:
    bus = backend.bus()
    with pytest.raises(UnknownRequest):
        await bus.journal.append("never", by("a", started()))
    with pytest.raises(UnknownRequest):
        await bus.journal.cancel("never")
    assert await bus.journal.read("never") == []


async def test_a_position_is_written_once(backend: Backend) -> None:
    first = await published(backend)
    second = backend.bus()
    await write(first, "a", started(), tokens(0, 2))
    for late in (started(), tokens(0, 2), tokens(0, 5)):
        with pytest.raises(Fenced):
            await write(second, "b", late)
    with pytest.raises(Fenced):
        await write(first, "a", tokens(0, 2))
    assert await first.journal.read("r1") == [by("a", started()), by("a", tokens(0, 2))]


async def test_the_writer_that_was_only_slow_is_fenced_by_the_one_that_took_over(
    backend: Backend,
) -> None:
    slow, quick = await published(backend), backend.bus()
    await write(slow, "slow", started(), tokens(0, 2))
    assert token_ids(await quick.journal.read("r1")) == [0, 1]
    await write(quick, "quick", tokens(2, 3))
    for late in (tokens(2), tokens(2, 3), tokens(2, 9), summary(2), failure()):
        with pytest.raises(Fenced):
            await write(slow, "slow", late)
    await write(quick, "quick", tokens(5), summary(6))
    entries = await quick.journal.read("r1")
    assert token_ids(entries) == list(range(6))
    assert [entry.writer for entry in entries] == ["slow", "slow", "quick", "quick", "quick"]


async def test_the_writer_that_kept_going_fences_the_one_that_took_over(backend: Backend) -> None:
    slow, quick = await published(backend), backend.bus()
    await write(slow, "slow", started(), tokens(0, 2))
    await quick.journal.read("r1")
    await write(slow, "slow", tokens(2))
    with pytest.raises(Fenced):
        await write(quick, "quick", tokens(2, 4))
    await write(slow, "slow", tokens(3), summary(4))
    assert token_ids(await slow.journal.read("r1")) == [0, 1, 2, 3]


async def test_a_failure_ends_the_journal_behind_the_tokens_its_writer_knows(
    backend: Backend,
) -> None:
    first, second = await published(backend), backend.bus()
    await write(first, "a", started(), tokens(0, 4))
    await second.journal.read("r1")
    await write(second, "b", failure())
    assert (await followed(second))[-1] == by("b", failure())


@pytest.mark.parametrize("end", [summary(3), failure()], ids=["summary", "failure"])
async def test_nothing_follows_the_end(backend: Backend, end: Summary) -> None:
    bus, other = await published(backend), backend.bus()
    await write(bus, "a", started(), tokens(0, 3), end)
    for writer in (bus, other):
        for late in (started(), tokens(3), tokens(9), summary(3), summary(2**31), failure()):
            with pytest.raises(Fenced):
                await write(writer, "b", late)
    assert await bus.journal.cancel("r1") is False
    assert (await bus.journal.read("r1"))[-1].event == end


async def test_a_cancellation_ends_the_stream_and_fences_the_writer(backend: Backend) -> None:
    router, drafter = await published(backend), backend.bus()
    following = asyncio.create_task(followed(router))
    await write(drafter, "a", started(), tokens(0, 2), tokens(2, outcome=Outcome.PLAIN))
    assert await router.journal.cancel("r1") is True
    assert await router.journal.cancel("r1") is False
    for late in (tokens(3), summary(3), failure()):
        with pytest.raises(Fenced):
            await write(drafter, "a", late)
    last = (await following)[-1].event
    assert isinstance(last, Summary)
    assert last.finish_reason is FinishReason.CANCELLED
    assert (last.prompt_tokens, last.completion_tokens) == (3, 3)
    assert (last.accepted_tokens, last.plain_tokens, last.corrected_tokens) == (2, 1, 0)
    assert [(tier.tier, tier.accepted_tokens) for tier in last.tiers] == [
        ("lookup", 2),
        ("target", 0),
    ]


async def test_a_request_can_be_cancelled_before_anyone_took_it(backend: Backend) -> None:
    bus = await published(backend)
    assert await bus.journal.cancel("r1") is True
    [entry] = await followed(bus)
    assert isinstance(entry.event, Summary)
    assert entry.event.completion_tokens == 0
    with pytest.raises(Fenced):
        await write(bus, "a", started())


async def test_a_cancellation_amid_writing_counts_what_is_there(backend: Backend) -> None:
    router, drafter = await published(backend), backend.bus()

    async def write_until_fenced() -> None:
        for position in range(10_000):
            await write(drafter, "a", tokens(position))
            await asyncio.sleep(0.002)  # a round takes longer than that

    writing = asyncio.create_task(write_until_fenced())
    await asyncio.sleep(0.01)
    assert await router.journal.cancel("r1") is True
    with pytest.raises(Fenced):
        await writing
    entries = await router.journal.read("r1")
    last = entries[-1].event
    assert isinstance(last, Summary)
    assert last.completion_tokens == len(token_ids(entries))


async def test_an_ended_journal_is_kept_for_its_time(backend: Backend) -> None:
    bus = await published(backend, journal_ttl_s=1.5)
    await write(bus, "a", *STORY)
    assert len(await followed(bus)) == len(STORY)
    await backend.pass_time(1.7)
    assert await bus.journal.read("r1") == []
    with pytest.raises(UnknownRequest):
        await followed(bus)
    await bus.jobs.publish(job("r1"))  # the id is free again


async def test_a_running_journal_is_kept_longer_with_every_entry(backend: Backend) -> None:
    bus = await published(backend, running_ttl_s=3.0)
    for position in range(3):
        await backend.pass_time(1.2)
        await write(bus, "a", tokens(position))
    await backend.pass_time(3.2)
    with pytest.raises(UnknownRequest):
        await write(bus, "a", tokens(3))


async def test_a_heartbeat_keeps_the_journal_of_a_long_first_pass(backend: Backend) -> None:
    bus = await published(backend, running_ttl_s=3.0)
    delivery = await bus.jobs.take("a", timeout_s=1)
    assert delivery is not None
    for _ in range(3):
        await backend.pass_time(1.2)
        await bus.jobs.renew("a", delivery)
    await write(bus, "a", started())


async def test_a_heartbeat_does_not_keep_an_ended_journal(backend: Backend) -> None:
    bus = await published(backend, running_ttl_s=60, journal_ttl_s=0.4)
    delivery = await bus.jobs.take("a", timeout_s=1)
    assert delivery is not None
    await bus.journal.cancel("r1")
    await bus.jobs.renew("a", delivery)
    await backend.pass_time(1.6)
    assert await bus.journal.read("r1") == []
    with pytest.raises(UnknownRequest):
        await followed(bus)


async def test_a_full_journal_refuses_tokens_and_takes_the_end(backend: Backend) -> None:
    bus = await published(backend, journal_limit=3)
    await write(bus, "a", started(), tokens(0), tokens(1))
    with pytest.raises(Overloaded, match="3 entries"):
        await write(bus, "a", tokens(2))
    await write(bus, "a", failure())
    assert token_ids(await followed(bus)) == [0, 1]


@pytest.mark.parametrize(
    "event",
    [Tokens(position=0, tokens=()), tokens(2**32 - 1), tokens(-1), tokens(2**32)],
    ids=["none", "last", "negative", "beyond"],
)
async def test_an_event_outside_the_contract_is_not_written(
    backend: Backend, event: Tokens
) -> None:
    bus = await published(backend)
    with pytest.raises(ProtocolViolation):
        await write(bus, "a", event)
    assert await bus.journal.read("r1") == []


async def test_closing_ends_followers_and_can_be_repeated(backend: Backend) -> None:
    bus = await published(backend, block_s=0.05)
    following = asyncio.create_task(followed(bus))
    await write(backend.bus(), "a", started())
    await asyncio.sleep(0.02)
    await bus.close()
    await bus.close()
    with pytest.raises(BusUnavailable):
        await following


async def test_a_note_of_an_attached_client_holds_for_its_time(backend: Backend) -> None:
    router, other = backend.bus(), backend.bus()
    assert not await other.journal.is_attended("r1")
    await router.journal.attend("r1", 30.0)
    assert await other.journal.is_attended("r1")
    assert not await other.journal.is_attended("r2")
    await router.journal.attend("r1", 0.2)
    await backend.pass_time(0.4)
    assert not await other.journal.is_attended("r1")


async def test_whether_a_journal_has_ended_can_be_asked_without_writing_it(
    backend: Backend,
) -> None:
    bus, writer = await published(backend), backend.bus()
    assert not await bus.journal.has_ended("r1")
    await write(writer, "a", STORY[0], STORY[1])
    assert not await bus.journal.has_ended("r1")
    await bus.journal.cancel("r1")
    assert await writer.journal.has_ended("r1")
    with pytest.raises(Fenced):
        await write(writer, "a", STORY[2])
    assert await bus.journal.has_ended("never-published")
