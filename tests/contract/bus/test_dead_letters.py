"""Dead letters: listed with reason and time, and replayed as new requests under the old id."""

from __future__ import annotations

import contextlib

import pytest

from hola.bus.ports import Bus
from hola.errors import (
    DuplicateRequest,
    Fenced,
    Overloaded,
    ProtocolViolation,
    UnknownRequest,
)
from hola.types import Failure
from tests.support.bus import Backend, by, followed, job, started, summary, token_ids, tokens

IDLE_S = 0.3


async def give_up(backend: Backend, name: str = "r1", tenant: str = "default") -> None:
    """Publish a job and let it wear out."""
    bus = backend.bus(job_idle_s=IDLE_S, max_attempts=1)
    await bus.jobs.publish(job(name, tenant))
    assert await bus.jobs.take("a", timeout_s=0) is not None
    await backend.pass_time(IDLE_S + 0.05)
    assert await bus.jobs.take("a", timeout_s=0) is None


async def finish(bus: Bus, name: str = "r1") -> None:
    """Take a job and do it."""
    delivery = await bus.jobs.take("b", timeout_s=0)
    assert delivery is not None
    assert (delivery.job.request_id, delivery.attempts) == (name, 1)
    assert await bus.journal.read(name) == []
    for event in (started(name), tokens(0, 2), summary(2)):
        await bus.journal.append(name, by("b", event))
    await bus.jobs.ack(delivery)


async def test_letters_are_listed_youngest_first_with_reason_and_time(backend: Backend) -> None:
    await give_up(backend, "r1", "a")
    await give_up(backend, "r2", "b")
    bus = backend.bus()
    await backend.add_job(b"\xff")
    assert await bus.jobs.take("a", timeout_s=0) is None
    letters = await bus.jobs.dead_letters()
    assert [(each.request_id, each.tenant) for each in letters] == [
        ("", "default"),
        ("r2", "b"),
        ("r1", "a"),
    ]
    assert letters[0].reason.startswith("PROTOCOL_VIOLATION: ")
    assert "1 drafters took this job" in letters[1].reason
    assert letters[0].died_unix_ms >= letters[2].died_unix_ms > 1_600_000_000_000
    assert len({each.id for each in letters}) == 3
    assert await bus.jobs.dead_letters(limit=1) == letters[:1]
    assert await bus.jobs.dead_letters(limit=0) == []


async def test_a_replayed_job_runs_with_a_new_journal_and_leaves_the_letters(
    backend: Backend,
) -> None:
    await give_up(backend)
    bus = backend.bus()
    assert isinstance((await followed(bus))[-1].event, Failure)
    [letter] = await bus.jobs.dead_letters()
    assert await bus.jobs.replay(letter.id) == job()
    assert await bus.jobs.dead_letters() == []
    assert not await bus.journal.has_ended("r1")
    await finish(bus)
    assert token_ids(await followed(bus)) == [0, 1]
    assert await bus.journal.owner("r1") == "default"


async def test_a_job_whose_journal_has_expired_can_be_replayed(backend: Backend) -> None:
    bus = backend.bus(job_idle_s=IDLE_S, max_attempts=1, journal_ttl_s=0.2)
    await bus.jobs.publish(job())
    assert await bus.jobs.take("a", timeout_s=0) is not None
    await backend.pass_time(IDLE_S + 0.05)
    assert await bus.jobs.take("a", timeout_s=0) is None
    await backend.pass_time(0.4)
    [letter] = await bus.jobs.dead_letters()
    await bus.jobs.replay(letter.id)
    await finish(backend.bus())


async def test_the_drafter_that_was_given_up_cannot_write_to_the_replay(backend: Backend) -> None:
    bus, stale = backend.bus(job_idle_s=IDLE_S, max_attempts=1), backend.bus()
    await bus.jobs.publish(job())
    assert await bus.jobs.take("a", timeout_s=0) is not None
    for event in (started(), tokens(0, 2)):
        await stale.journal.append("r1", by("stale", event))
    await backend.pass_time(IDLE_S + 0.05)
    assert await bus.jobs.take("a", timeout_s=0) is None
    [letter] = await bus.jobs.dead_letters()
    await bus.jobs.replay(letter.id)
    with pytest.raises(Fenced):
        await stale.journal.append("r1", by("stale", tokens(2)))
    await finish(backend.bus())


async def test_a_request_that_runs_again_already_is_not_replayed(backend: Backend) -> None:
    await give_up(backend)
    bus = backend.bus()
    [letter] = await bus.jobs.dead_letters()
    await bus.jobs.replay(letter.id)
    with pytest.raises(UnknownRequest):
        await bus.jobs.replay(letter.id)
    assert await bus.jobs.depth() == 1


async def test_a_request_id_that_somebody_took_meanwhile_is_not_replayed(backend: Backend) -> None:
    bus = backend.bus(job_idle_s=IDLE_S, max_attempts=1, journal_ttl_s=0.2)
    await bus.jobs.publish(job())
    assert await bus.jobs.take("a", timeout_s=0) is not None
    await backend.pass_time(IDLE_S + 0.05)
    assert await bus.jobs.take("a", timeout_s=0) is None
    await backend.pass_time(0.4)
    await bus.jobs.publish(job())
    await bus.journal.append("r1", by("b", started()))
    [letter] = await bus.jobs.dead_letters()
    with pytest.raises(DuplicateRequest):
        await bus.jobs.replay(letter.id)
    assert await bus.jobs.dead_letters() == [letter]
    assert await bus.jobs.depth() == 1


@pytest.mark.parametrize("name", ["", "0-0", "99999-0", "none", "-", "+", "1-1-1"])
async def test_what_is_no_letter_is_unknown(backend: Backend, name: str) -> None:
    await give_up(backend)
    with pytest.raises(UnknownRequest, match="dead letter"):
        await backend.bus().jobs.replay(name)


async def test_garbage_cannot_be_replayed_and_stays_listed(backend: Backend) -> None:
    bus = backend.bus()
    await backend.add_job(b"\xff")
    assert await bus.jobs.take("a", timeout_s=0) is None
    [letter] = await bus.jobs.dead_letters()
    with pytest.raises(ProtocolViolation):
        await bus.jobs.replay(letter.id)
    assert await bus.jobs.dead_letters() == [letter]


async def test_a_full_queue_refuses_a_replay_and_keeps_the_letter(backend: Backend) -> None:
    await give_up(backend)
    bus = backend.bus(queue_limit=1)
    await bus.jobs.publish(job("other"))
    [letter] = await bus.jobs.dead_letters()
    with pytest.raises(Overloaded):
        await bus.jobs.replay(letter.id)
    assert await bus.jobs.dead_letters() == [letter]
    delivery = await bus.jobs.take("b", timeout_s=0)
    assert delivery is not None
    await bus.jobs.ack(delivery)
    await bus.jobs.replay(letter.id)
    await finish(bus)


async def test_a_slow_reader_of_the_old_journal_does_not_get_the_new_ones_tokens(
    backend: Backend,
) -> None:
    bus = backend.bus(job_idle_s=IDLE_S, max_attempts=1, follower_buffer=1)
    await bus.jobs.publish(job())
    assert await bus.jobs.take("a", timeout_s=0) is not None
    for event in (started(), tokens(0), tokens(1), tokens(2)):
        await bus.journal.append("r1", by("a", event))
    slow = bus.journal.follow("r1")
    first = [await anext(slow), await anext(slow)]
    assert token_ids(first) == [0]
    await backend.pass_time(IDLE_S + 0.05)
    assert await bus.jobs.take("a", timeout_s=0) is None
    [letter] = await bus.jobs.dead_letters()
    await bus.jobs.replay(letter.id)
    rest = []
    with contextlib.suppress(UnknownRequest):
        async for entry in slow:
            rest.append(entry)
    assert token_ids(rest) in ([], [1], [1, 2])
    await finish(backend.bus())
    assert token_ids(await followed(bus)) == [0, 1]
