"""VerifierPort: the text is the target's own, whatever is drafted and however often it breaks."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hola.errors import HolaError, SessionLost
from hola.types import CancelSession, Done, DraftBlock, Exactness, Opened, SamplingParams
from tests.support.verifier import Rig, WatchedEngine, ask, plain, reference


async def test_opened_tells_what_is_served(rig: Rig) -> None:
    link = await rig.port.connect()
    opened = await ask(link, rig.open_request())
    assert isinstance(opened, Opened)
    assert opened.fingerprint == rig.target.digest != ""
    assert opened.exactness is Exactness.EXACT
    assert opened.context_length == rig.engine.info.context_length
    assert opened.eos_token_ids == rig.engine.info.eos_token_ids
    assert opened.cached_tokens == 0
    assert opened.prefill_ns > 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_empty_blocks_are_plain_decoding(rig: Rig, temperature: float) -> None:
    sampling = SamplingParams(temperature=temperature, seed=7, max_tokens=64)
    link = await rig.opened(sampling=sampling)
    assert await plain(link, 24) == reference(rig.engine, 24, sampling)


@pytest.mark.parametrize("seed", range(4))
async def test_any_drafts_give_the_same_text(rig: Rig, seed: int) -> None:
    """Draft blocks of random length and quality; replay with the printed seed."""
    dice = random.Random(seed)
    sampling = SamplingParams(temperature=0.9, seed=seed, max_tokens=64)
    truth = reference(rig.engine, 64, sampling)
    link = await rig.opened(sampling=sampling)
    output: list[int] = []
    for round_ in range(1, 20):
        drafts = [
            token if dice.random() < 0.7 else dice.randrange(256)
            for token in truth[len(output) : len(output) + dice.randrange(7)]
        ]
        block = DraftBlock(round=round_, base_position=len(output), tokens=tuple(drafts))
        verdict = await ask(link, block)
        right = sum(1 for _ in _equal_prefix(drafts, truth[len(output) :]))
        assert verdict.accepted == right, f"seed {seed}, round {round_}"
        assert verdict.token is not None
        output += [*drafts[: verdict.accepted], verdict.token]
        if len(output) > 50:
            break
    assert output == truth[: len(output)], f"seed {seed}"


def _equal_prefix(left: list[int], right: list[int]) -> Any:
    for one, other in zip(left, right, strict=False):
        if one != other:
            return
        yield one


async def test_logprobs_come_when_asked_for(rig: Rig) -> None:
    link = await rig.opened(sampling=SamplingParams(logprobs=True, max_tokens=8))
    truth = reference(rig.engine, 3)
    verdict = await ask(link, DraftBlock(round=1, base_position=0, tokens=tuple(truth[:2])))
    assert len(verdict.logprobs) == 3
    assert all(value <= 0 for value in verdict.logprobs)


async def test_the_times_of_a_verdict_are_set(rig: Rig) -> None:
    link = await rig.opened()
    verdict = await ask(link, DraftBlock(round=1, base_position=0))
    assert verdict.compute_ns > 0
    assert verdict.queue_ns >= 0


async def test_the_text_ends_at_an_end_token(start: Any) -> None:
    rig = await start(engine=WatchedEngine(eos_bias=1e6))
    link = await rig.opened()
    verdict = await ask(link, DraftBlock(round=1, base_position=0))
    assert verdict.finished
    assert verdict.token == rig.engine.info.eos_token_ids[0]
    with pytest.raises(HolaError, match="ended"):
        await ask(link, DraftBlock(round=2, base_position=1))


async def test_a_repeated_round_gets_the_same_verdict_and_no_pass(rig: Rig) -> None:
    link = await rig.opened()
    block = DraftBlock(round=1, base_position=0, tokens=(1, 2, 3))
    first = await ask(link, block)
    passes = len(rig.engine.passes)
    again = await ask(link, block)
    assert (again.round, again.accepted, again.token) == (1, first.accepted, first.token)
    assert len(rig.engine.passes) == passes


async def test_cancel_ends_with_the_number_of_rounds_and_frees(rig: Rig) -> None:
    link = await rig.opened()
    await plain(link, 3)
    assert (await rig.port.info()).kv_bytes > 0
    assert await ask(link, CancelSession()) == Done(rounds=3)
    info = await rig.port.info()
    assert (info.active_sessions, info.kv_bytes) == (0, 0)
    with pytest.raises(SessionLost):
        await link.receive()


async def test_cancel_before_open_is_done(rig: Rig) -> None:
    link = await rig.port.connect()
    assert await ask(link, CancelSession()) == Done(rounds=0)


async def test_a_broken_stream_is_taken_up_with_what_is_cached(rig: Rig) -> None:
    truth = reference(rig.engine, 12)
    link = await rig.opened()
    assert await plain(link, 5) == truth[:5]
    await link.close()

    link = await rig.port.connect()
    opened = await ask(link, rig.open_request(committed=tuple(truth[:5])))
    assert opened.cached_tokens == len(rig.open_request().prompt) + 4
    assert await plain(link, 7, base=5) == truth[5:]


async def test_a_session_can_be_rebuilt_from_nothing(rig: Rig) -> None:
    truth = reference(rig.engine, 12)
    link = await rig.port.connect()
    opened = await ask(link, rig.open_request(session_id="fresh", committed=tuple(truth[:6])))
    assert opened.cached_tokens == 0
    assert await plain(link, 6, base=6) == truth[6:]


async def test_a_later_stream_takes_a_session_from_an_earlier_one(rig: Rig) -> None:
    truth = reference(rig.engine, 8)
    early = await rig.opened()
    await plain(early, 2)
    late = await rig.opened(committed=tuple(truth[:2]))
    with pytest.raises(SessionLost, match="another stream"):
        await ask(early, DraftBlock(round=3, base_position=2))
    assert await plain(late, 6, base=2) == truth[2:]
    assert (await rig.port.info()).active_sessions == 1
