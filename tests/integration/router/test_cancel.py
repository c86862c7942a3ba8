"""Cancel reaches the verifier within the round under way, whatever the drafter is waiting for."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

import hola_drafter.loop
import hola_drafter.worker
from hola.types import FinishReason, SamplingParams, Tokens
from tests.support.scripted_system import tokens_of
from tests.support.system import WIRINGS, request, running_system, terminal
from tests.support.verifier import eventually

pytestmark = pytest.mark.redis
LONG_S = 4000.0


@pytest.fixture(scope="module")
def database(start_redis):
    """A redis-server of this module's own."""
    return start_redis().url


@pytest.fixture(params=WIRINGS)
async def system(request, tmp_path, database, monkeypatch):
    """A system whose drafter would not learn of a cancellation by a heartbeat."""
    monkeypatch.setattr(hola_drafter.worker, "LONGEST_BEAT_S", LONG_S)
    async with running_system(request.param, tmp_path, database, job_idle_s=LONG_S) as running:
        yield running


async def drained(system):
    async with asyncio.timeout(20):
        while await system.bus.jobs.depth():  # noqa: ASYNC110 - the other side is a socket
            await asyncio.sleep(0.01)


@pytest.fixture
def hung_up(monkeypatch):
    """Set when the drafter begins to tell the verifier that the session is over."""
    began = asyncio.Event()
    hang_up = hola_drafter.loop._Shell.hang_up

    async def watched(shell):
        began.set()
        await hang_up(shell)

    monkeypatch.setattr(hola_drafter.loop._Shell, "hang_up", watched)
    return began


@pytest.mark.parametrize("after", [1, 4], ids=["first tokens", "later"])
async def test_at_most_one_more_round_is_verified(system, after, hung_up):
    wanted = request(sampling=SamplingParams(max_tokens=3000))
    seen, count = [], 0
    async with aclosing(system.client.generate(wanted)) as events:
        async for event in events:
            seen.append(event)
            if isinstance(event, Tokens):
                after -= 1
            if after == 0:
                after = -1
                system.engine.hold()
                await system.engine.in_pass()
                assert await system.client.cancel("r1")
                count = len(system.engine.passes)
                # The target still computes; the drafter has nothing to append and no heartbeat.
                async with asyncio.timeout(20):
                    await hung_up.wait()
                system.engine.release()
    assert terminal(seen).finish_reason is FinishReason.CANCELLED
    assert terminal(seen).completion_tokens == len(tokens_of(seen)) < 3000
    await eventually(lambda: system.sessions_left == 0, "the verifier freed the session")
    assert len(system.engine.passes) <= count + 1


async def test_a_running_verifier_stops_as_well(system):
    """Nothing is held: rounds are as short as they get."""
    for n in range(5):
        wanted = request(f"r{n}", sampling=SamplingParams(max_tokens=100_000))
        async with aclosing(system.client.generate(wanted)) as events:
            async for event in events:
                if isinstance(event, Tokens):
                    assert await system.client.cancel(f"r{n}")
                    break
        await eventually(lambda: system.sessions_left == 0, "the verifier freed the session")
    await drained(system)


async def test_a_notice_of_what_is_not_ended_changes_nothing(system):
    wanted = request()
    seen = []
    async with aclosing(system.client.generate(wanted)) as events:
        async for event in events:
            seen.append(event)
            for name in ("r1", "nobody", "", "\udcff".encode("utf-8", "replace").decode()):
                await system.bus.notices.ended(name)
    assert terminal(seen).finish_reason is FinishReason.LENGTH
    assert len(tokens_of(seen)) == 40
