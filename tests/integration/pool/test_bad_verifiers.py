"""A verifier that answers garbage, twice, never or not at all costs a session a detour, no text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hola.convert import failure_of, verifier_response_to_pb
from hola.errors import BadAnswer, EngineFailure, HolaError, ProtocolViolation, SessionLost
from hola.rpc.verifier_pool import VerifierPool
from hola.types import DraftBlock, Exactness, Failure, Opened, Verdict, VerifierResponse
from hola.v1 import verifier_pb2
from tests.support.fleet import (
    SAMPLING,
    Walk,
    fleet_settings,
    running_bad_verifier,
    running_fleet,
    value,
)
from tests.support.verifier import Rig, WatchedEngine, ask, reference

OPENED = Opened(
    fingerprint="", exactness=Exactness.EXACT, context_length=4096, eos_token_ids=(256,)
)


def packed(*answers: VerifierResponse | Failure) -> bytes:
    return b"".join(verifier_response_to_pb(each).SerializeToString() for each in answers)


async def garbage(request: verifier_pb2.VerifyRequest) -> AsyncIterator[bytes]:
    yield b"\xff\xfe\xfd garbage"


async def empty(request: verifier_pb2.VerifyRequest) -> AsyncIterator[bytes]:
    yield b""


async def never(request: verifier_pb2.VerifyRequest) -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def closes(request: verifier_pb2.VerifyRequest) -> AsyncIterator[bytes]:
    raise RuntimeError("it fell over")
    yield b""


async def opens_twice(request: verifier_pb2.VerifyRequest) -> AsyncIterator[bytes]:
    yield packed(OPENED)
    yield packed(OPENED)


async def verdict_first(request: verifier_pb2.VerifyRequest) -> AsyncIterator[bytes]:
    yield packed(Verdict(round=1, accepted=0, token=5))


async def answers_twice(request: verifier_pb2.VerifyRequest) -> AsyncIterator[bytes]:
    """Both verdicts are the target's, as from a session that is played twice."""
    if request.WhichOneof("message") == "open":
        yield packed(OPENED)
        return
    verdict = Verdict(round=request.block.round, accepted=0, token=_first_token())
    yield packed(verdict)
    yield packed(verdict)


async def impossible(request: verifier_pb2.VerifyRequest) -> AsyncIterator[bytes]:
    if request.WhichOneof("message") == "open":
        yield packed(OPENED)
        return
    yield packed(Verdict(round=request.block.round, accepted=60, token=5))


async def engine_fails(request: verifier_pb2.VerifyRequest) -> AsyncIterator[bytes]:
    yield packed(failure_of(EngineFailure("non-finite logits")))


async def unknown_failure(request: verifier_pb2.VerifyRequest) -> AsyncIterator[bytes]:
    yield packed(failure_of(HolaError("something nobody thought of")))


BEHAVIOURS = {
    each.__name__: each
    for each in (
        garbage,
        empty,
        never,
        closes,
        opens_twice,
        verdict_first,
        answers_twice,
        impossible,
        engine_fails,
        unknown_failure,
    )
}


def _first_token() -> int:
    return reference(WatchedEngine(), 1, SAMPLING)[0]


def session_that_goes_to(pool: VerifierPool, address: str) -> str:
    """A session id whose first choice is this address."""
    from hola.rpc.verifier_choice import Candidate, order

    both = [Candidate(address=each) for each in pool.address.split(",")]
    return next(f"s{number}" for number in range(1000) if order(both, f"s{number}")[0] == address)


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_a_bad_verifier_is_left_for_a_good_one(tmp_path: Path, name: str) -> None:
    bad = f"unix://{tmp_path}/bad.sock"
    async with running_fleet(tmp_path, 1, more=[bad], answer_timeout_s=2.0) as fleet:
        rig = fleet.rigs[0]
        info = rig.app.host.info()
        async with running_bad_verifier(info, BEHAVIOURS[name], bad):
            walk = Walk(rig, session_that_goes_to(fleet.pool, bad))
            async with asyncio.timeout(60):
                tokens = await walk.run(fleet.pool, 12)
            assert tokens == reference(rig.engine, 12, SAMPLING)
            assert walk.addresses[-1] == fleet.addresses[0]
            assert walk.errors, "the bad verifier was never asked"
            assert all(isinstance(error, SessionLost) for error in walk.errors)
            wrong = name in {
                "garbage", "empty", "opens_twice", "verdict_first", "answers_twice", "impossible"
            }  # fmt: skip
            assert any(isinstance(error, BadAnswer) for error in walk.errors) == wrong
            assert (value(fleet.metrics, "hola_breaker_opens_total") > 0) >= wrong
            await fleet.pool.close()


async def test_alone_a_failing_verifier_is_told_as_it_is(tmp_path: Path) -> None:
    """There is nobody else who could do better, so the cause is not hidden."""
    bad = f"unix://{tmp_path}/bad.sock"
    async with running_fleet(tmp_path, 1) as fleet:
        rig = fleet.rigs[0]
        async with running_bad_verifier(rig.app.host.info(), engine_fails, bad):
            pool = VerifierPool(bad, fleet_settings())
            link = await pool.connect("s1")
            with pytest.raises(EngineFailure, match="non-finite"):
                await ask(link, rig.open_request())
            await link.close()
            await pool.close()


async def test_what_all_refuse_is_told_after_each_was_tried_once(tmp_path: Path) -> None:
    spots = [f"unix://{tmp_path}/bad-{number}.sock" for number in range(2)]
    async with running_fleet(tmp_path, 1) as fleet:
        rig = fleet.rigs[0]
        info = rig.app.host.info()
        asked: list[str] = []

        async def one(request: verifier_pb2.VerifyRequest) -> AsyncIterator[bytes]:
            asked.append("one")
            yield packed(failure_of(EngineFailure("one fails")))

        async def two(request: verifier_pb2.VerifyRequest) -> AsyncIterator[bytes]:
            asked.append("two")
            yield packed(failure_of(EngineFailure("two fails")))

        async with (
            running_bad_verifier(info, one, spots[0]),
            running_bad_verifier(info, two, spots[1]),
        ):
            pool = VerifierPool(",".join(spots), fleet_settings())
            with pytest.raises(EngineFailure):
                await Walk(rig).run(pool, 4)
            assert sorted(asked) == ["one", "two"]
            await pool.close()


async def test_the_caller_s_own_mistakes_are_not_taken_elsewhere(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, 2) as fleet:
        rig: Rig = fleet.rigs[0]
        link = await fleet.pool.connect("s1")
        await ask(link, rig.open_request())
        with pytest.raises(ProtocolViolation, match="base_position"):
            await ask(link, DraftBlock(round=1, base_position=7))
        await link.close()
        assert value(fleet.metrics, "hola_pool_addresses", state="healthy") == 2
