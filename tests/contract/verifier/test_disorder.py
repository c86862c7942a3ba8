"""VerifierPort under disorder: whatever clients do, verdicts are right and no cache leaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from hola.errors import Overloaded, SessionLost
from hola.ports import VerifierLink
from hola.types import CancelSession, DraftBlock, SamplingParams
from tests.support.verifier import PROMPT, Rig, ask, eventually, reference

SAMPLING = SamplingParams(temperature=0.8, seed=11, max_tokens=40)
LENGTH = 40
CLIENTS = 6
VISITS = 25


@pytest.mark.parametrize("seed", range(3))
async def test_clients_that_come_and_go_at_random(
    start: Callable[..., Awaitable[Rig]], seed: int
) -> None:
    """Replay with the seed. Four caches for eight session ids and six clients."""
    rig = await start(max_sessions=4)
    dice = random.Random(seed)
    truths = {
        f"s{number}": reference(rig.engine, LENGTH, SAMPLING, prompt_of(number))
        for number in range(8)
    }
    verified: list[str] = []

    async def client() -> None:
        for _ in range(VISITS):
            name = f"s{dice.randrange(8)}"
            link = await rig.port.connect()
            try:
                await visit(rig, link, name, truths[name], dice, verified)
            except (SessionLost, Overloaded):
                pass  # another client has the session, or all caches are in use
            finally:
                await link.close()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
    assert len(set(verified)) > 4, f"few sessions came to a verdict, seed {seed}"
    host = rig.app.host
    await eventually(lambda: host.info().active_sessions == 0, f"no stream is left, seed {seed}")
    await host.close()
    assert host.info().kv_bytes == 0
    assert rig.engine.opened_sessions == rig.engine.closed_sessions, f"seed {seed}"


def prompt_of(number: int) -> tuple[int, ...]:
    return (*PROMPT, *b" " * (150 * (number % 3)), number)


async def visit(
    rig: Rig,
    link: VerifierLink,
    name: str,
    truth: list[int],
    dice: random.Random,
    verified: list[str],
) -> None:
    """Open a session somewhere in the text, verify some blocks, leave in some way."""
    at = dice.randrange(LENGTH - 20)
    request = rig.open_request(
        session_id=name,
        prompt=prompt_of(int(name[1:])),
        committed=tuple(truth[:at]),
        sampling=SAMPLING,
    )
    if dice.random() < 0.2:
        await link.send(request)
        return  # before it is answered
    await ask(link, request)
    for round_ in range(1, dice.randrange(2, 6)):
        drafts = draft(truth[at : at + dice.randrange(4)], dice)
        block = DraftBlock(round=round_, base_position=at, tokens=drafts)
        if dice.random() < 0.1:
            await link.send(block)
            return
        verdict = await ask(link, block)
        tokens = [*drafts[: verdict.accepted], verdict.token]
        assert tokens == truth[at : at + len(tokens)], name
        verified.append(name)
        at += len(tokens)
    if dice.random() < 0.5:
        await ask(link, CancelSession())


def draft(right: list[int], dice: random.Random) -> tuple[int, ...]:
    return tuple(token if dice.random() < 0.7 else dice.randrange(256) for token in right)
