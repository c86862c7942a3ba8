"""VerifierPort: sessions take turns, cancelled work is not done, idle sessions are freed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from hola.errors import Overloaded, SessionLost
from hola.speculation.verifier_session import PREFILL_CHUNK_TOKENS
from hola.types import DraftBlock, Opened, SamplingParams, Verdict
from tests.support.verifier import Pass, Rig, WatchedEngine, ask, eventually, plain, reference

LONG_PROMPT = tuple(index % 256 for index in range(20 * PREFILL_CHUNK_TOKENS))


async def test_a_long_prefill_delays_another_session_by_one_chunk(rig: Rig) -> None:
    short = await rig.opened(session_id="short")
    rig.engine.passes.clear()
    rig.engine.hold()
    long = await rig.port.connect()
    await long.send(rig.open_request(session_id="long", prompt=LONG_PROMPT))
    await rig.engine.in_pass()
    await short.send(DraftBlock(round=1, base_position=0))
    await eventually(lambda: rig.app.host.info().queue_depth == 2, "the block waits")
    rig.engine.release()

    async with asyncio.timeout(20):
        verdict = await short.receive()
        opened = await long.receive()
    assert [verdict.token] == reference(rig.engine, 1)
    assert verdict.queue_ns > 0
    assert isinstance(opened, Opened)
    assert rig.engine.passes[:2] == [
        Pass(2, "prefill", PREFILL_CHUNK_TOKENS),
        Pass(1, "forward", 1),
    ]
    assert len(rig.engine.passes) == 1 + len(LONG_PROMPT) // PREFILL_CHUNK_TOKENS
    assert await plain(long, 3) == reference(rig.engine, 3, prompt=LONG_PROMPT)


async def test_interleaved_sessions_keep_to_themselves(rig: Rig) -> None:
    names = ("a", "b", "c")
    prompts = {name: tuple(f"The prompt of {name}".encode()) for name in names}
    links = {name: await rig.opened(session_id=name, prompt=prompts[name]) for name in names}
    outputs = await asyncio.gather(*(plain(links[name], 16) for name in names))
    for name, output in zip(names, outputs, strict=True):
        assert output == reference(rig.engine, 16, prompt=prompts[name]), name


class SecondWaits(WatchedEngine):
    """Its second session's blocks wait for an event."""

    second = threading.Event()

    def enter(self, entry: Pass) -> None:
        super().enter(entry)
        if (entry.session, entry.kind) == (2, "forward"):
            assert self.second.wait(timeout=30)


async def test_an_answer_says_how_many_jobs_wait(start: Callable[..., Awaitable[Rig]]) -> None:
    engine = SecondWaits()
    rig = await start(engine=engine)
    first = await rig.opened(session_id="first")
    second = await rig.opened(session_id="second")
    engine.second.clear()
    engine.hold()
    await first.send(DraftBlock(round=1, base_position=0))
    await engine.in_pass()
    await second.send(DraftBlock(round=1, base_position=0))
    await eventually(lambda: rig.app.host.info().queue_depth == 2, "the second block waits")
    engine.release()
    async with asyncio.timeout(20):
        verdict = await first.receive()
        engine.second.set()
        last = await second.receive()
    assert isinstance(verdict, Verdict)
    assert isinstance(last, Verdict)
    # The worker may not have put its last job away yet.
    assert 1 <= verdict.queue_depth <= 2
    assert last.queue_depth <= 1


async def test_info_answers_during_a_pass(rig: Rig) -> None:
    rig.engine.hold()
    link = await rig.port.connect()
    await link.send(rig.open_request())
    await rig.engine.in_pass()
    async with asyncio.timeout(5):
        info = await rig.port.info()
    assert info.queue_depth == 1
    assert info.active_sessions == 1
    rig.engine.release()
    async with asyncio.timeout(20):
        assert isinstance(await link.receive(), Opened)


async def test_a_prefill_ends_with_its_stream(rig: Rig) -> None:
    rig.engine.hold()
    link = await rig.port.connect()
    await link.send(rig.open_request(prompt=LONG_PROMPT))
    await rig.engine.in_pass()
    await link.close()
    await eventually(lambda: rig.app.host.info().active_sessions == 0, "the stream is gone")
    rig.engine.release()
    await eventually(lambda: rig.app.host.info().queue_depth == 0, "the engine is idle")
    assert rig.engine.passes == [Pass(1, "prefill", PREFILL_CHUNK_TOKENS)]
    # What was computed is still there for whoever comes back.
    link = await rig.port.connect()
    opened = await ask(link, rig.open_request(prompt=LONG_PROMPT))
    assert opened.cached_tokens == PREFILL_CHUNK_TOKENS
    assert await plain(link, 2) == reference(rig.engine, 2, prompt=LONG_PROMPT)


async def test_a_block_that_waits_is_dropped_with_its_stream(rig: Rig) -> None:
    waiting = await rig.opened(session_id="waiting")
    running = await rig.opened(session_id="running")
    rig.engine.passes.clear()
    rig.engine.hold()
    await running.send(DraftBlock(round=1, base_position=0))
    await rig.engine.in_pass()
    await waiting.send(DraftBlock(round=1, base_position=0))
    await eventually(lambda: rig.app.host.info().queue_depth == 2, "the block waits")
    await waiting.close()
    await eventually(lambda: rig.app.host.info().queue_depth == 1, "the block is dropped")
    rig.engine.release()
    async with asyncio.timeout(20):
        await running.receive()
    assert rig.engine.passes == [Pass(2, "forward", 1)]


async def test_a_takeover_during_the_prefill_leaves_a_sound_cache(rig: Rig) -> None:
    rig.engine.hold()
    early = await rig.port.connect()
    await early.send(rig.open_request(prompt=LONG_PROMPT))
    await rig.engine.in_pass()
    late = await rig.port.connect()
    await late.send(rig.open_request(sampling=SamplingParams(max_tokens=8)))
    await eventually(lambda: rig.app.host.info().queue_depth == 2, "the takeover waits")
    rig.engine.release()
    async with asyncio.timeout(20):
        opened = await late.receive()
        with pytest.raises(SessionLost, match="another stream"):
            await early.receive()
    assert isinstance(opened, Opened)
    assert await plain(late, 8) == reference(rig.engine, 8)


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "detached"])
async def test_a_silent_session_is_freed(
    start: Callable[..., Awaitable[Rig]], attached: bool
) -> None:
    rig = await start(session_ttl_s=0.1)
    link = await rig.opened()
    if not attached:
        await link.close()
    await eventually(lambda: rig.app.host.info().kv_bytes == 0, "the session has expired")
    await eventually(lambda: rig.engine.closed_sessions == 1, "its cache is freed")
    if attached:
        with pytest.raises(SessionLost):
            await ask(link, DraftBlock(round=1, base_position=0))
    again = await rig.opened()
    assert await plain(again, 2) == reference(rig.engine, 2)


async def test_a_stream_that_never_opens_is_ended(start: Callable[..., Awaitable[Rig]]) -> None:
    rig = await start(session_ttl_s=0.1)
    link = await rig.port.connect()
    async with asyncio.timeout(10):
        with pytest.raises(SessionLost, match="idle"):
            await link.receive()


async def test_a_busy_engine_takes_no_more_sessions(start: Callable[..., Awaitable[Rig]]) -> None:
    rig = await start(queue_limit=1)
    rig.engine.hold()
    first = await rig.port.connect()
    await first.send(rig.open_request(session_id="first"))
    await rig.engine.in_pass()
    second = await rig.port.connect()
    with pytest.raises(Overloaded, match="jobs are waiting") as raised:
        await ask(second, rig.open_request(session_id="second"))
    assert int(raised.value.details["retry_after_ms"]) > 0
    rig.engine.release()
    async with asyncio.timeout(10):
        await first.receive()
    await rig.opened(session_id="second")
