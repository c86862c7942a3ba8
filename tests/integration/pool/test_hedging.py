"""Hedging: a late verdict is asked for a second time, and the text stays the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hola.types import DraftBlock
from tests.support.fleet import SAMPLING, Fleet, Walk, running_fleet, value
from tests.support.verifier import WatchedEngine, ask, eventually, reference


async def warmed(fleet: Fleet, session_id: str = "warm-up") -> None:
    """As many verdicts as it takes to know what late is."""
    await Walk(fleet.rigs[0], session_id).run(fleet.pool, 50)
    assert fleet.pool.hedging.after_s() is not None


async def test_a_late_verdict_is_won_by_the_second_verifier(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, 2, hedge="p95", detect_s=5.0) as fleet:
        await warmed(fleet)
        truth = reference(fleet.rigs[0].engine, 30, SAMPLING)
        walk = Walk(fleet.rigs[0], "s1")
        held: list[str] = []

        async def hold(count: int) -> None:
            if count >= 10 and not held:
                held.append(walk.addresses[-1])
                fleet.rig_at(held[0]).engine.hold()

        async with asyncio.timeout(30):
            assert await walk.run(fleet.pool, 30, between=hold) == truth
        assert walk.errors == []
        assert value(fleet.metrics, "hola_hedges_total", outcome="won") >= 1
        fleet.rig_at(held[0]).engine.release()
        for rig in fleet.rigs:
            await eventually(lambda rig=rig: rig.app.host.info().active_sessions == 0, "no stream")


async def test_whoever_wins_the_text_is_the_same(tmp_path: Path) -> None:
    """Both engines stumble at their own places, so that hedges are won and lost."""
    async with running_fleet(tmp_path, 2, hedge="p95", detect_s=10.0) as fleet:
        await warmed(fleet)
        walks = [Walk(fleet.rigs[0], f"s{number}") for number in range(4)]

        async def stumble(count: int) -> None:
            rig = fleet.rigs[count % 2]
            if count % 5 == 0:
                late_s = fleet.pool.hedging.after_s() or 0.0  # a loaded machine takes longer
                rig.engine.hold()
                held_s = min(max(0.05, 2 * late_s), 1.0)
                asyncio.get_running_loop().call_later(held_s, rig.engine.release)

        async with asyncio.timeout(60):
            outputs = await asyncio.gather(
                *(walk.run(fleet.pool, 60, between=stumble) for walk in walks)
            )
        assert outputs == [reference(fleet.rigs[0].engine, 60, SAMPLING)] * 4
        hedges = sum(
            value(fleet.metrics, "hola_hedges_total", outcome=each) for each in ("won", "lost")
        )
        assert hedges > 0


async def test_a_first_verifier_that_dies_meanwhile_is_not_even_noticed(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, 2, hedge="p95", drain_s=0.0) as fleet:
        await warmed(fleet)
        rig = fleet.rigs[0]
        truth = reference(rig.engine, 2, SAMPLING)
        link = await fleet.pool.connect("s1")
        first, second = link.address, next(a for a in fleet.addresses if a != link.address)
        await ask(link, rig.open_request(session_id="s1", sampling=SAMPLING))
        for each in fleet.rigs:
            each.engine.hold()
        await link.send(DraftBlock(round=1, base_position=0))
        receiving = asyncio.create_task(link.receive())
        await fleet.rig_at(second).engine.in_pass()
        await fleet.rig_at(first).app.stop()
        fleet.rig_at(second).engine.release()
        async with asyncio.timeout(20):
            assert (await receiving).token == truth[0]
            assert (await ask(link, DraftBlock(round=2, base_position=1))).token == truth[1]
        await link.close()


async def test_other_numerics_are_never_asked(tmp_path: Path) -> None:
    async with running_fleet(
        tmp_path, 2, hedge="p95", engines=lambda number: WatchedEngine(seed=number)
    ) as fleet:
        for _ in range(30):
            fleet.pool.hedging.observe(0.001)
        link = await fleet.pool.connect("s1", fingerprint=fleet.rigs[0].target.digest)
        assert link.address == fleet.addresses[0]
        await ask(link, fleet.rigs[0].open_request())
        fleet.rigs[0].engine.hold()
        await link.send(DraftBlock(round=1, base_position=0))
        receiving = asyncio.create_task(link.receive())
        await fleet.rigs[0].engine.in_pass()
        await asyncio.wait({receiving}, timeout=0.2)
        fleet.rigs[0].engine.release()
        async with asyncio.timeout(20):
            assert (await receiving).token == reference(fleet.rigs[0].engine, 1)[0]
        assert fleet.rigs[1].engine.passes == []
        await link.close()


async def test_cancelling_the_wait_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, 2, hedge="p95") as fleet:
        await warmed(fleet)
        link = await fleet.pool.connect("s1")
        await ask(link, fleet.rigs[0].open_request(session_id="s1", sampling=SAMPLING))
        second = next(a for a in fleet.addresses if a != link.address)
        for rig in fleet.rigs:
            rig.engine.hold()
        await link.send(DraftBlock(round=1, base_position=0))
        receiving = asyncio.create_task(link.receive())
        await fleet.rig_at(second).engine.in_pass()
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        assert receiving.cancelled()
        await link.close()
        for rig in fleet.rigs:
            rig.engine.release()
            await eventually(lambda rig=rig: rig.app.host.info().active_sessions == 0, "no stream")
