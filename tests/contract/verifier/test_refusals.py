"""VerifierPort: what is refused, with which error, and that the verifier goes on serving."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hola.errors import (
    EmptyPrompt,
    EngineFailure,
    FingerprintMismatch,
    HolaError,
    InvalidRequest,
    InvalidSampling,
    MemoryBudgetExceeded,
    Overloaded,
    PromptTooLong,
    ProtocolViolation,
    SessionLost,
    TokenizerMismatch,
    UnknownModel,
)
from hola.types import DraftBlock, Exactness, SamplingParams, VerifierRequest
from tests.support.verifier import Rig, WatchedEngine, ask, eventually, plain, reference

BAD_OPENS: dict[str, tuple[dict[str, Any], type[HolaError], dict[str, str]]] = {
    "unknown model": ({"model": "other"}, UnknownModel, {"known": "scripted"}),
    "other tokenizer": ({"tokenizer_fingerprint": "f" * 64}, TokenizerMismatch, {"got": "f" * 64}),
    "no tokenizer": ({"tokenizer_fingerprint": ""}, TokenizerMismatch, {"got": ""}),
    "empty prompt": ({"prompt": ()}, EmptyPrompt, {}),
    "no session id": ({"session_id": ""}, InvalidRequest, {"field": "session_id"}),
    "long session id": ({"session_id": "x" * 129}, InvalidRequest, {"field": "session_id"}),
    "token outside the vocabulary": (
        {"prompt": (1, 258)},
        InvalidRequest,
        {"field": "prompt_token_ids"},
    ),
    "committed token outside": (
        {"committed": (2**32 - 1,)},
        InvalidRequest,
        {"field": "committed_token_ids"},
    ),
    "prompt as long as the context": (
        {"prompt": (1,) * 4096},
        PromptTooLong,
        {"prompt_tokens": "4096", "context_length": "4096"},
    ),
    "committed fills the context": (
        {"prompt": (1,) * 4000, "committed": (1,) * 96},
        PromptTooLong,
        {"committed_tokens": "96"},
    ),
    "temperature is not a number": (
        {"sampling": SamplingParams(temperature=math.nan)},
        InvalidSampling,
        {},
    ),
    "infinite temperature": (
        {"sampling": SamplingParams(temperature=math.inf)},
        InvalidSampling,
        {},
    ),
    "top_p above 1": ({"sampling": SamplingParams(top_p=1.5)}, InvalidSampling, {}),
    "stop token outside": (
        {"sampling": SamplingParams(stop_token_ids=(9999,))},
        InvalidSampling,
        {},
    ),
    "other numerics": (
        {"required_fingerprint": "e" * 64, "allow_degraded": False},
        FingerprintMismatch,
        {"expected": "e" * 64},
    ),
}


async def assert_still_serving(rig: Rig) -> None:
    link = await rig.opened(session_id="next")
    assert await plain(link, 3) == reference(rig.engine, 3)


@pytest.mark.parametrize("case", BAD_OPENS)
async def test_a_bad_open_gets_its_own_error(rig: Rig, case: str) -> None:
    changes, kind, details = BAD_OPENS[case]
    link = await rig.port.connect()
    with pytest.raises(kind) as raised:
        await ask(link, rig.open_request(**changes))
    assert type(raised.value) is kind
    assert details.items() <= raised.value.details.items()
    info = await rig.port.info()
    assert (info.active_sessions, info.kv_bytes) == (0, 0)
    await assert_still_serving(rig)


async def test_other_numerics_are_degraded_where_that_is_allowed(rig: Rig) -> None:
    link = await rig.port.connect()
    request = rig.open_request(required_fingerprint="e" * 64, allow_degraded=True)
    opened = await ask(link, request)
    assert opened.exactness is Exactness.DEGRADED
    assert opened.fingerprint == rig.target.digest


async def test_the_own_fingerprint_is_exact(rig: Rig) -> None:
    link = await rig.port.connect()
    request = rig.open_request(required_fingerprint=rig.target.digest, allow_degraded=False)
    assert (await ask(link, request)).exactness is Exactness.EXACT


BAD_BLOCKS: dict[str, tuple[DraftBlock, type[HolaError]]] = {
    "round from the future": (DraftBlock(round=3, base_position=1), ProtocolViolation),
    "round zero": (DraftBlock(round=0, base_position=1), ProtocolViolation),
    "base too high": (DraftBlock(round=2, base_position=2), ProtocolViolation),
    "base too low": (DraftBlock(round=2, base_position=0), ProtocolViolation),
    "token outside": (DraftBlock(round=2, base_position=1, tokens=(258,)), ProtocolViolation),
    "another block of an old round": (
        DraftBlock(round=1, base_position=0, tokens=(5,)),
        ProtocolViolation,
    ),
}


@pytest.mark.parametrize("case", BAD_BLOCKS)
async def test_a_bad_block_gets_its_own_error(rig: Rig, case: str) -> None:
    block, kind = BAD_BLOCKS[case]
    link = await rig.opened()
    await plain(link, 1)
    with pytest.raises(kind):
        await ask(link, block)
    await assert_still_serving(rig)


@pytest.mark.parametrize(
    "block",
    [
        DraftBlock(round=1, base_position=0, tokens=(1,) * 65),
        DraftBlock(round=1, base_position=0, tokens=(1,), committed_tokens=2),
    ],
    ids=["65 tokens", "more committed than drafted"],
)
async def test_a_block_of_a_wrong_size_is_refused(rig: Rig, block: DraftBlock) -> None:
    link = await rig.opened()
    with pytest.raises((ProtocolViolation, InvalidRequest)):
        await ask(link, block)
    await assert_still_serving(rig)


async def test_a_block_before_open_is_refused(rig: Rig) -> None:
    link = await rig.port.connect()
    with pytest.raises(ProtocolViolation, match="before Open"):
        await ask(link, DraftBlock(round=1, base_position=0))
    await assert_still_serving(rig)


async def test_a_second_open_is_refused(rig: Rig) -> None:
    link = await rig.opened()
    with pytest.raises(ProtocolViolation, match="one session per stream"):
        await ask(link, rig.open_request())
    await assert_still_serving(rig)


@pytest.mark.parametrize("message", ["open", "block"])
async def test_a_failed_stream_stays_failed(rig: Rig, message: str) -> None:
    link = await rig.port.connect()
    with pytest.raises(ProtocolViolation):
        await ask(link, DraftBlock(round=1, base_position=0))
    request: VerifierRequest = (
        rig.open_request() if message == "open" else DraftBlock(round=1, base_position=0)
    )
    with pytest.raises(HolaError):
        await ask(link, request)


async def test_a_session_that_can_never_fit_is_told_the_numbers(start: Any) -> None:
    rig: Rig = await start(engine=WatchedEngine(kv_bytes_per_token=1024), memory_budget_mb=1)
    link = await rig.port.connect()
    with pytest.raises(MemoryBudgetExceeded) as raised:
        await ask(link, rig.open_request(sampling=SamplingParams(max_tokens=4000)))
    assert raised.value.details["needed_bytes"] == str(4084 * 1024)
    assert raised.value.details["available_bytes"] == str(2**20)
    await assert_still_serving(rig)


async def test_waiting_sessions_make_room_for_new_ones(start: Any) -> None:
    """A budget of 1,024 tokens; each session takes 18 + 300 + 66 of them, so two fit."""
    rig: Rig = await start(engine=WatchedEngine(kv_bytes_per_token=1024), memory_budget_mb=1)
    sampling = SamplingParams(max_tokens=300)
    first = await rig.opened(session_id="first", sampling=sampling)
    second = await rig.opened(session_id="second", sampling=sampling)
    third = await rig.port.connect()
    with pytest.raises(Overloaded):
        await ask(third, rig.open_request(session_id="third", sampling=sampling))
    await first.close()
    await until_attached(rig, 1)
    third = await rig.opened(session_id="third", sampling=sampling)
    await eventually(lambda: rig.engine.closed_sessions == 1, "the first session's cache is freed")
    truth = reference(rig.engine, 2)
    assert await plain(second, 2) == truth
    assert await plain(third, 2) == truth
    assert (await rig.port.info()).kv_bytes == 2 * 384 * 1024


async def test_the_engine_has_the_last_word_on_memory(rig: Rig) -> None:
    """It holds two caches: a waiting session goes for a third, a running one does not."""
    rig.engine.most_open_sessions = 2
    first = await rig.opened(session_id="first")
    second = await rig.opened(session_id="second")
    await first.close()
    await until_attached(rig, 1)
    third = await rig.opened(session_id="third")
    fourth = await rig.port.connect()
    with pytest.raises(Overloaded) as raised:
        await ask(fourth, rig.open_request(session_id="fourth"))
    assert raised.value.details["needed_bytes"] == "2"
    assert int(raised.value.details["retry_after_ms"]) > 0
    truth = reference(rig.engine, 2)
    assert await plain(second, 2) == truth
    assert await plain(third, 2) == truth


async def test_an_engine_without_any_room(rig: Rig) -> None:
    rig.engine.most_open_sessions = 0
    link = await rig.port.connect()
    with pytest.raises(MemoryBudgetExceeded, match="no room for a cache"):
        await ask(link, rig.open_request())
    rig.engine.most_open_sessions = 1
    await assert_still_serving(rig)


async def test_an_engine_failure_costs_one_session_only(rig: Rig) -> None:
    link = await rig.opened()
    await plain(link, 2)
    rig.engine.fail_next = EngineFailure("the pass gave non-finite logits")
    with pytest.raises(EngineFailure, match="non-finite"):
        await ask(link, DraftBlock(round=3, base_position=2))
    assert (await rig.port.info()).kv_bytes == 0
    await assert_still_serving(rig)


async def test_too_many_sessions_are_told_to_come_back(start: Any) -> None:
    rig: Rig = await start(max_sessions=2)
    links = [await rig.opened(session_id=name) for name in ("a", "b")]
    third = await rig.port.connect()
    with pytest.raises(Overloaded) as raised:
        await ask(third, rig.open_request(session_id="c"))
    assert int(raised.value.details["retry_after_ms"]) > 0
    await links[0].close()
    await until_attached(rig, 1)
    await rig.opened(session_id="c")
    with pytest.raises(SessionLost):
        await ask(links[0], DraftBlock(round=1, base_position=0))
    assert await plain(links[1], 2) == reference(rig.engine, 2)


async def until_attached(rig: Rig, count: int) -> None:
    host = rig.app.host
    await eventually(lambda: host.info().active_sessions == count, f"{count} attached sessions")
