"""AnswerCheck: what the target says of a draft, its limits, and that sessions get their turns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from hola.checking import MAX_CHECKED_TOKENS, CheckRequest
from hola.errors import (
    EmptyPrompt,
    HolaError,
    InvalidRequest,
    MemoryBudgetExceeded,
    Overloaded,
    PromptTooLong,
    SessionLost,
    TokenizerMismatch,
    UnknownModel,
    VerifierUnavailable,
)
from hola.retrieval.gate.draft import check_answer
from hola.speculation.verifier_session import PREFILL_CHUNK_TOKENS
from tests.support.verifier import PROMPT, Rig, eventually, plain, reference

Start = Callable[..., Awaitable[Rig]]
DRAFT = tuple(b" He")
LONG = tuple(index % 256 for index in range(12 * PREFILL_CHUNK_TOKENS))


def question(rig: Rig, **changes: Any) -> CheckRequest:
    asked = CheckRequest(
        model="scripted",
        tokenizer_fingerprint=rig.target.tokenizer_fingerprint,
        prompt=PROMPT,
        draft=DRAFT,
    )
    return replace(asked, **changes)


async def test_it_says_what_the_target_itself_would(rig: Rig) -> None:
    told = await rig.port.check(question(rig))
    assert told.signals == check_answer(rig.engine.scripted, PROMPT, DRAFT)
    assert told.compute_ns > 0


async def test_an_answer_of_its_own_is_agreed_with(rig: Rig) -> None:
    own = tuple(reference(rig.engine, 5))
    told = await rig.port.check(question(rig, draft=own))
    assert told.signals["c_agrees"] == 1.0
    assert told.signals["c_tokens"] == 5.0


async def test_nothing_is_kept(rig: Rig) -> None:
    for _ in range(3):
        await rig.port.check(question(rig))
    await eventually(
        lambda: rig.engine.opened_sessions == rig.engine.closed_sessions, "its caches are freed"
    )
    info = await rig.port.info()
    assert (info.kv_bytes, info.active_sessions) == (0, 0)


async def test_chunks_change_nothing_and_let_a_session_in(rig: Rig) -> None:
    link = await rig.opened()
    rig.engine.hold()
    checking = asyncio.create_task(rig.port.check(question(rig, prompt=LONG)))
    await rig.engine.in_pass()
    before = len(rig.engine.passes)
    rounds = asyncio.create_task(plain(link, 3))
    await eventually(lambda: rig.app.host.info().queue_depth >= 2, "the block waits")
    rig.engine.release()
    assert await rounds == reference(rig.engine, 3)
    told = await checking
    assert told.signals == check_answer(rig.engine.scripted, LONG, DRAFT)
    kinds = [each.width for each in rig.engine.passes[before:]]
    assert max(kinds) <= PREFILL_CHUNK_TOKENS


BAD: dict[str, tuple[dict[str, Any], type[HolaError]]] = {
    "unknown model": ({"model": "other"}, UnknownModel),
    "other tokenizer": ({"tokenizer_fingerprint": "f" * 64}, TokenizerMismatch),
    "no prompt": ({"prompt": ()}, EmptyPrompt),
    "no draft": ({"draft": ()}, InvalidRequest),
    "a long draft": ({"draft": (1,) * (MAX_CHECKED_TOKENS + 1)}, InvalidRequest),
    "a prompt token outside": ({"prompt": (2**32 - 1,)}, InvalidRequest),
    "a draft token outside": ({"draft": (258,)}, InvalidRequest),
    "past the context": ({"prompt": (1,) * 4096}, PromptTooLong),
    "no tenant's name": ({"tenant": "a/b"}, InvalidRequest),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_questions_are_refused_and_it_serves_on(rig: Rig, case: str) -> None:
    changes, kind = BAD[case]
    with pytest.raises(HolaError) as caught:
        await rig.port.check(question(rig, **changes))
    assert type(caught.value) is kind, caught.value
    assert (await rig.port.check(question(rig))).signals


async def test_it_counts_against_the_session_limit(start: Start) -> None:
    rig = await start(max_sessions=1)
    await rig.opened()
    with pytest.raises(Overloaded):
        await rig.port.check(question(rig))


async def test_a_cache_that_can_never_fit_is_said(start: Start) -> None:
    rig = await start(memory_budget_mb=1)
    rig.engine.most_open_sessions = 0
    with pytest.raises(MemoryBudgetExceeded):
        await rig.port.check(question(rig))


async def test_one_that_is_given_up_frees_its_cache(rig: Rig) -> None:
    rig.engine.hold()
    checking = asyncio.create_task(rig.port.check(question(rig, prompt=LONG)))
    await rig.engine.in_pass()
    checking.cancel()
    await asyncio.gather(checking, return_exceptions=True)
    rig.engine.release()
    await eventually(
        lambda: rig.engine.opened_sessions == rig.engine.closed_sessions, "its cache is freed"
    )
    assert rig.app.host.info().kv_bytes == 0


async def test_one_that_drains_takes_none(rig: Rig) -> None:
    rig.app.host.door.draining = True
    with pytest.raises((SessionLost, VerifierUnavailable)):
        await rig.port.check(question(rig))


async def test_the_prefill_speed_is_measured(rig: Rig) -> None:
    assert (await rig.port.info()).prefill_ns_per_token == 0
    await rig.opened(prompt=LONG)
    speed = (await rig.port.info()).prefill_ns_per_token
    assert speed > 0
    assert (await rig.port.check(question(rig))).prefill_ns_per_token == speed
