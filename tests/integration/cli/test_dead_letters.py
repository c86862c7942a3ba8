"""`hola dead-letters` on a real bus: what it shows, what it queues again, and what it refuses."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
import redis

from hola.bus.redis import RedisBus
from hola.bus.streams import BusLimits, Keys
from hola.types import GenerateJob, JournalEntry
from tests.support.router import story, write

pytestmark = pytest.mark.redis
JOB = GenerateJob(request_id="r1", model="demo", prompt="a secret", tenant="acme")
LIMITS = BusLimits(max_attempts=1, job_idle_s=0.01, block_s=0.05, queue_limit=3)


@pytest.fixture(scope="module")
def database(start_redis):
    """A redis-server of this module's own."""
    return start_redis().url


@pytest.fixture
def env(database):
    """The environment of a command on an empty database."""
    with redis.Redis.from_url(database) as client:
        client.flushdb()
    return {"HOLA_BUS": database, "HOLA_QUEUE_LIMIT": "3", "HOLA_LOG_LEVEL": "error"}


def on_bus(url, work):
    """Run `work(bus)` on a connection of its own."""

    async def run():
        bus = RedisBus(url, limits=LIMITS)
        try:
            return await work(bus)
        finally:
            await bus.close()

    return asyncio.run(run())


def bury(url, *jobs):
    """Have each job taken once more than it may be."""

    async def work(bus):
        for job in jobs:
            await bus.jobs.publish(job)
        for _ in jobs:
            assert await bus.jobs.take("d", timeout_s=10)
        async with asyncio.timeout(20):
            while await bus.jobs.depth():
                await bus.jobs.take("d", timeout_s=0.1)

    on_bus(url, work)


def listed(run, env):
    result = run("dead-letters", "list", "--json", env=env)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_nothing_is_dead(run, env):
    result = run("dead-letters", "list", env=env)
    assert (result.exit_code, result.stdout) == (0, "no dead letters\n")
    assert run("dead-letters", "list", "--json", env=env).stdout == ""
    assert run("dead-letters", "replay", "--all", env=env).exit_code == 0


def test_a_letter_says_why_and_whose_and_never_the_prompt(run, env):
    bury(env["HOLA_BUS"], JOB, replace(JOB, request_id="r2"))
    letters = listed(run, env)
    assert [each["request_id"] for each in letters] == ["r2", "r1"]
    assert {each["tenant"] for each in letters} == {"acme"}
    assert "given up" in letters[0]["reason"]
    assert set(letters[0]) == {"id", "reason", "request_id", "tenant", "died_unix_ms"}
    table = run("dead-letters", "list", env={**env, "COLUMNS": "200"}).stdout
    assert letters[0]["id"] in table
    assert "acme" in table
    assert "secret" not in table
    assert (
        len(run("dead-letters", "list", "--limit", "1", "--json", env=env).stdout.split("\n")) == 2
    )


def test_a_replayed_job_can_be_finished(run, env):
    bury(env["HOLA_BUS"], JOB)
    (letter,) = listed(run, env)
    result = run("dead-letters", "replay", letter["id"], env=env)
    assert result.exit_code == 0, result.output
    assert "request r1 of tenant acme is queued again" in result.stdout
    assert listed(run, env) == []

    async def finish(bus):
        delivery = await bus.jobs.take("d", timeout_s=10)
        await write(bus, "r1", story(delivery.job))
        await bus.jobs.ack(delivery)
        return delivery, [entry async for entry in bus.journal.follow("r1")]

    delivery, entries = on_bus(env["HOLA_BUS"], finish)
    assert delivery.job == JOB
    assert entries == [JournalEntry(event=event, writer="d") for event in story(JOB)]


def test_all_of_them_oldest_first(run, env):
    bury(env["HOLA_BUS"], *(replace(JOB, request_id=f"r{n}") for n in range(3)))
    result = run("dead-letters", "replay", "--all", "--json", env=env)
    assert result.exit_code == 0, result.output
    told = [json.loads(line)["request_id"] for line in result.stdout.splitlines()]
    assert told == ["r0", "r1", "r2"]
    assert listed(run, env) == []


def test_a_full_queue_ends_it_and_the_rest_stays(run, env):
    bury(env["HOLA_BUS"], *(replace(JOB, request_id=f"r{n}") for n in range(3)))
    tight = {**env, "HOLA_QUEUE_LIMIT": "2"}
    result = run("dead-letters", "replay", "--all", env=tight)
    assert result.exit_code == 5
    assert "come back in" in result.stderr
    assert [each["request_id"] for each in listed(run, env)] == ["r2"]


def test_what_cannot_be_read_is_listed_and_stays(run, env):
    garbage, database = b"\xff\xfe no job", redis.Redis.from_url(env["HOLA_BUS"])
    fields = {"p": garbage, "reason": "PROTOCOL_VIOLATION: payload", "tenant": "acme"}
    database.xadd(Keys().dead_letters, fields)
    database.close()
    bury(env["HOLA_BUS"], JOB)
    result = run("dead-letters", "replay", "--all", env=env)
    assert result.exit_code == 1, result.output
    assert "payload" in result.stderr
    assert "r1" in result.stdout
    (left,) = listed(run, env)
    assert left["request_id"] == ""
    assert "(unreadable)" in run("dead-letters", "list", env={**env, "COLUMNS": "200"}).stdout


BAD = {
    "nothing said": ("replay",),
    "both": ("replay", "1-0", "--all"),
    "limit 0": ("list", "--limit", "0"),
    "a limit beyond what is kept": ("list", "--limit", "100000"),
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD)
def test_bad_arguments(run, env, arguments):
    result = run("dead-letters", *arguments, env=env)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize("letter_id", ["1-0", "nonsense", "-", "+", "0-0 x", "9" * 32])
def test_an_unknown_letter(run, env, letter_id):
    result = run("dead-letters", "replay", "--", letter_id, env=env)
    assert result.exit_code == 3, result.output
    assert result.stderr.count("\n") == 1


def test_a_bus_in_memory_is_nobody_elses(run):
    result = run("dead-letters", "list", env={"HOLA_BUS": "memory:"})
    assert result.exit_code == 2
    assert "memory:" in result.stderr


def test_a_bus_that_is_not_there(run):
    result = run("dead-letters", "list", env={"HOLA_BUS": "redis://127.0.0.1:1/0"})
    assert result.exit_code == 6
    assert "127.0.0.1:1" in result.stderr
