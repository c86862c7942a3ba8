"""A storm of clients that drop, come back and cancel: one end each, no wrong token, none left."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing

import pytest

from hola.types import FinishReason, SamplingParams, SpeculationParams, Tokens
from tests.support.scripted_system import tokens_of
from tests.support.system import PROMPT, WIRINGS, collect, request, running_system, terminal
from tests.support.verifier import eventually, reference

pytestmark = pytest.mark.redis
CLIENTS = 40


@pytest.fixture(scope="module")
def database(start_redis):
    """A redis-server of this module's own."""
    return start_redis().url


async def watch(system, wanted, chance: random.Random):
    """Follow one request to its end the way an unlucky client does; (token ids, end)."""
    got: list[int] = []
    stream = system.client.generate(wanted)
    while True:
        patience = chance.choice([1, 2, 5, 1000])
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, Tokens):
                    assert event.position == len(got), "a gap or a repetition"
                    got.extend(token.token for token in event.tokens)
                elif hasattr(event, "finish_reason") or hasattr(event, "grpc_code"):
                    return got, event
                patience -= 1
                if patience == 0:
                    break
        if chance.random() < 0.15:
            await system.client.cancel(wanted.request_id)
        stream = system.client.resume(wanted.request_id, len(got))


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm(wiring, seed, tmp_path, database):
    chance = random.Random(seed)
    async with running_system(wiring, tmp_path, database, detach_grace_s=20) as system:
        wanted = [
            request(
                f"storm-{n}",
                sampling=SamplingParams(
                    max_tokens=chance.randint(1, 60), temperature=chance.choice([0.0, 0.9]), seed=n
                ),
                speculation=SpeculationParams(max_draft_tokens=chance.choice([None, 0, 1, 7])),
            )
            for n in range(CLIENTS)
        ]
        watchers = (
            watch(system, each, random.Random(seed * 1000 + n)) for n, each in enumerate(wanted)
        )
        async with asyncio.timeout(100):
            seen = await asyncio.gather(*watchers)
        ends = set()
        for each, (got, end) in zip(wanted, seen, strict=True):
            whole = reference(
                system.engine, each.sampling.max_tokens, each.sampling, tuple(PROMPT.encode())
            )
            assert got == whole[: len(got)], f"{each.request_id}, seed {seed}"
            if end.finish_reason is not FinishReason.CANCELLED:
                assert got == whole, f"{each.request_id}, seed {seed}"
            again = await collect(system.client.resume(each.request_id))
            assert terminal(again) == end, f"{each.request_id}, seed {seed}"
            assert [token.token for token in tokens_of(again)] == got
            ends.add(end.finish_reason)
        assert ends == {FinishReason.LENGTH, FinishReason.CANCELLED}, "the storm was too calm"
        await eventually(lambda: system.sessions_left == 0, "every session was freed")
