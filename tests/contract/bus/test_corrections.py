"""Unverified tokens in a journal: written, taken back, fought over, cancelled; one history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from hola.bus.ports import Bus
from hola.errors import Fenced, ProtocolViolation
from hola.types import Correction, Exactness, GenerateEvent, Outcome, Summary, Tokens
from tests.support.bus import (
    PATIENCE_S,
    Backend,
    by,
    failure,
    followed,
    job,
    standing_ids,
    started,
    summary,
    token_ids,
    tokens,
    unverified,
)

STORY: list[GenerateEvent] = [
    started(),
    tokens(0, 3),
    unverified(3, 2),
    unverified(5),
    Correction(position=4, fingerprint="f00d"),  # one of three was right
    tokens(4, 2),
    unverified(6, 2),
    Correction(position=6),  # none was right
    tokens(6),
    unverified(7),
    Correction(position=8),  # all of it was right
    summary(8),
]
STANDING = [0, 1, 2, 103, 4, 5, 6, 107]


async def published(backend: Backend, **limits: float) -> Bus:
    bus = backend.bus(**limits)
    await bus.jobs.publish(job())
    return bus


async def write(bus: Bus, writer: str, *events: GenerateEvent) -> None:
    for event in events:
        await bus.journal.append("r1", by(writer, event))


async def test_a_corrected_stream_is_read_and_followed_as_it_was_written(backend: Backend) -> None:
    bus = await published(backend)
    early = asyncio.create_task(followed(backend.bus()))
    await write(bus, "a", *STORY[:6])
    between = asyncio.create_task(followed(backend.bus()))
    await asyncio.sleep(0)
    await write(bus, "a", *STORY[6:])
    expected = [by("a", event) for event in STORY]
    assert await bus.journal.read("r1") == expected
    assert [await early, await between, await followed(bus)] == [expected] * 3
    assert standing_ids(expected) == STANDING


async def test_a_slow_follower_loses_nothing_across_corrections(backend: Backend) -> None:
    bus, entries = await published(backend, follower_buffer=2), []
    await write(bus, "a", STORY[0])
    async with asyncio.timeout(PATIENCE_S):
        async for entry in bus.journal.follow("r1"):
            entries.append(entry)
            if len(entries) == 1:
                await write(bus, "a", *STORY[1:])
    assert [entry.event for entry in entries] == STORY


# What two writers that know the same prefix may do next, in any combination.
PREFIX: list[GenerateEvent] = [started(), tokens(0, 3), unverified(3, 2)]
NEXT: list[GenerateEvent] = [
    unverified(5),
    unverified(5, 4),
    Correction(position=3),
    Correction(position=5),
    summary(5),
    failure(),
]


@pytest.mark.parametrize("second", NEXT, ids=lambda event: f"then-{type(event).__name__}")
@pytest.mark.parametrize("first", NEXT, ids=lambda event: type(event).__name__)
async def test_of_two_writers_that_know_the_same_one_gets_through(
    backend: Backend, first: GenerateEvent, second: GenerateEvent
) -> None:
    one, two = await published(backend), backend.bus()
    await write(one, "one", *PREFIX)
    await two.journal.read("r1")
    await write(one, "one", first)
    with pytest.raises(Fenced):
        await write(two, "two", second)
    assert [entry.writer for entry in await one.journal.read("r1")] == ["one"] * 4


@pytest.mark.parametrize("is_local_first", [True, False])
async def test_a_writer_with_a_verifier_and_one_without_do_not_both_go_on(
    backend: Backend, is_local_first: bool
) -> None:
    local, remote = await published(backend), backend.bus()
    await write(local, "local", started(), tokens(0, 3))
    await remote.journal.read("r1")
    plans = [("local", local, unverified(3)), ("remote", remote, tokens(3, 2))]
    (name, winner, event), (late, loser, other) = plans if is_local_first else plans[::-1]
    await write(winner, name, event)
    with pytest.raises(Fenced):
        await write(loser, late, other)


async def test_another_writer_takes_over_in_an_unverified_stretch(backend: Backend) -> None:
    slow, quick = await published(backend), backend.bus()
    following = asyncio.create_task(followed(backend.bus()))
    await write(slow, "slow", *PREFIX)
    assert token_ids(await quick.journal.read("r1")) == [0, 1, 2, 103, 104]
    await write(quick, "quick", Correction(position=4), tokens(4), summary(5))
    late: Sequence[GenerateEvent] = [
        unverified(5),
        Correction(position=5),
        tokens(5),
        summary(5),
        failure(),
    ]
    for event in late:
        with pytest.raises(Fenced):
            await write(slow, "slow", event)
    assert standing_ids(await following) == [0, 1, 2, 103, 4]


async def test_a_failure_behind_a_correction_ends_the_journal(backend: Backend) -> None:
    bus = await published(backend)
    await write(bus, "a", *PREFIX, unverified(5, 3), Correction(position=3), failure())
    entries = await followed(bus)
    assert entries[-1] == by("a", failure())
    assert standing_ids(entries) == [0, 1, 2]
    with pytest.raises(Fenced):
        await write(bus, "a", tokens(3))


async def test_an_end_in_an_unverified_stretch_is_an_end(backend: Backend) -> None:
    bus = await published(backend)
    await write(bus, "a", *PREFIX, summary(5))
    for late in (Correction(position=4), unverified(5), tokens(5)):
        with pytest.raises((Fenced, ProtocolViolation)):
            await write(bus, "a", late)
    assert standing_ids(await followed(bus)) == [0, 1, 2, 103, 104]


@pytest.mark.parametrize("position", [0, 2, 6, 2**32 - 1])
async def test_settled_or_unwritten_tokens_cannot_be_corrected(
    backend: Backend, position: int
) -> None:
    bus = await published(backend)
    await write(bus, "a", *PREFIX)
    with pytest.raises(ProtocolViolation, match="correction"):
        await write(bus, "a", Correction(position=position))
    await write(bus, "a", Correction(position=4), tokens(4), summary(5))
    assert standing_ids(await followed(bus)) == [0, 1, 2, 103, 4]


async def test_unverified_tokens_are_written_once_like_others(backend: Backend) -> None:
    bus = await published(backend)
    await write(bus, "a", *PREFIX)
    for repeated in (unverified(3, 2), unverified(3), unverified(4), tokens(0, 3)):
        with pytest.raises(Fenced):
            await write(bus, "a", repeated)
    assert token_ids(await bus.journal.read("r1")) == [0, 1, 2, 103, 104]


async def test_a_cancellation_in_an_unverified_stretch_says_what_it_leaves(
    backend: Backend,
) -> None:
    router, drafter = await published(backend), backend.bus()
    await write(drafter, "a", *STORY[:4])
    assert await router.journal.cancel("r1") is True
    for late in (unverified(6), Correction(position=4), tokens(6)):
        with pytest.raises(Fenced):
            await write(drafter, "a", late)
    last = (await followed(router))[-1].event
    assert isinstance(last, Summary)
    assert (last.accepted_tokens, last.unverified_tokens, last.completion_tokens) == (3, 3, 6)
    assert (last.exactness, last.corrections) == (Exactness.UNVERIFIED, 0)


async def test_a_cancellation_counts_what_corrections_left_standing(backend: Backend) -> None:
    router, drafter = await published(backend), backend.bus()
    await write(drafter, "a", *STORY[:-1])
    assert await router.journal.cancel("r1") is True
    entries = await followed(router)
    last = entries[-1].event
    assert isinstance(last, Summary)
    assert last.completion_tokens == last.accepted_tokens == len(standing_ids(entries)) == 8
    assert (last.exactness, last.corrections, last.unverified_tokens) == (Exactness.EXACT, 3, 0)


async def test_gated_tokens_need_no_correction(backend: Backend) -> None:
    bus = await published(backend)
    gated: list[Tokens] = [
        tokens(0, 2, outcome=Outcome.UNVERIFIED),
        tokens(2, 2, outcome=Outcome.UNVERIFIED),
        tokens(4, 1, outcome=Outcome.CORRECTED),
        tokens(5, 3, outcome=Outcome.UNVERIFIED),
    ]
    await write(bus, "a", started(), *gated, summary(8))
    assert token_ids(await followed(bus)) == list(range(8))
