"""A pool of real verifiers: sessions keep their text when verifiers die, fall silent or drain."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hola.errors import ConfigError, SessionLost, SessionMoved, VerifierUnavailable
from hola.rpc.verifier_pool import VerifierPool
from hola.types import DraftBlock
from tests.support.fleet import SAMPLING, Fleet, Walk, fleet_settings, running_fleet, value
from tests.support.verifier import WatchedEngine, ask, eventually, reference


def truth(fleet: Fleet, count: int) -> list[int]:
    return reference(fleet.rigs[0].engine, count, SAMPLING)


async def test_sessions_are_spread_and_each_has_its_place(tmp_path: Path) -> None:
    """The same for a drafter that knows nothing of them. Patient: a slow machine is no failure."""
    async with running_fleet(tmp_path, 3, detect_s=30.0) as fleet:
        walks = [Walk(fleet.rigs[0], f"s{number}") for number in range(30)]
        outputs = await asyncio.gather(*(walk.run(fleet.pool, 12) for walk in walks))
        assert outputs == [truth(fleet, 12)] * 30
        places = {walk.session_id: walk.addresses for walk in walks}
        assert len({places[name][0] for name in places}) == 3
        other = VerifierPool(",".join(fleet.addresses), fleet_settings(detect_s=30.0))
        again = Walk(fleet.rigs[0], "s0")
        try:
            await again.run(other, 4)
        finally:
            await other.close()
        assert again.addresses == places["s0"]


@pytest.mark.parametrize("at", [0, 7, 20])
async def test_a_killed_verifier_changes_nothing(tmp_path: Path, at: int) -> None:
    async with running_fleet(tmp_path, 2, drain_s=0.0) as fleet:
        walk = Walk(fleet.rigs[0])
        killed: list[str] = []

        async def kill(count: int) -> None:
            if count >= at and not killed:
                killed.append(walk.addresses[-1])
                await fleet.rig_at(killed[0]).app.stop()

        assert await walk.run(fleet.pool, 30, between=kill) == truth(fleet, 30)
        assert len(set(walk.addresses)) == 2
        assert walk.exactness == {"EXACT"}
        assert value(fleet.metrics, "hola_failovers_total") >= 1


async def test_a_verifier_behind_a_cut_cable_is_left_within_the_deadline(tmp_path: Path) -> None:
    """answer_timeout_s and keepalive_s are minutes: only the probe can find it out."""
    async with running_fleet(tmp_path, 2, cables=True, detect_s=1.0) as fleet:
        walk = Walk(fleet.rigs[0])
        frozen: list[str] = []

        async def freeze(count: int) -> None:
            if count >= 10 and not frozen:
                frozen.append(walk.addresses[-1])
                fleet.cable_at(frozen[0]).freeze()

        async with asyncio.timeout(20):
            assert await walk.run(fleet.pool, 30, between=freeze) == truth(fleet, 30)
        assert len(set(walk.addresses)) == 2
        assert [type(error) for error in walk.errors] == [SessionLost]
        assert "silent" in str(walk.errors[0])
        fleet.cable_at(frozen[0]).thaw()


async def test_all_questions_at_a_silent_address_end_at_once(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, 1, cables=True, detect_s=1.0) as fleet:
        rig = fleet.rigs[0]
        links = [await fleet.pool.connect(f"s{number}") for number in range(5)]
        for number, link in enumerate(links):
            await ask(link, rig.open_request(session_id=f"s{number}"))
        before = len(rig.engine.passes)
        fleet.cables[0].freeze()
        for link in links:
            await link.send(DraftBlock(round=1, base_position=0))
        async with asyncio.timeout(20):
            found = await asyncio.gather(
                *(link.receive() for link in links), return_exceptions=True
            )
        assert [type(each) for each in found] == [SessionLost] * 5
        assert len(rig.engine.passes) == before
        fleet.cables[0].thaw()
        for link in links:
            await link.close()


async def test_a_busy_verifier_is_left_alone(tmp_path: Path) -> None:
    """Its engine is held for longer than the deadline, its Info answers."""
    async with running_fleet(tmp_path, 2, detect_s=0.8) as fleet:
        link = await fleet.pool.connect("s1")
        rig = fleet.rig_at(link.address)
        await ask(link, rig.open_request())
        rig.engine.hold()
        await link.send(DraftBlock(round=1, base_position=0))
        receiving = asyncio.create_task(link.receive())
        done, _ = await asyncio.wait({receiving}, timeout=2.0)
        assert not done
        rig.engine.release()
        async with asyncio.timeout(10):
            assert (await receiving).token == reference(rig.engine, 1)[0]
        await link.close()


async def test_a_verifier_too_full_for_info_is_left_alone(tmp_path: Path) -> None:
    """HOLA_MAX_CALLS is used up by the session itself: even Info is refused, which is an answer."""
    async with running_fleet(tmp_path, 1, detect_s=0.6, max_calls=1) as fleet:
        rig = fleet.rigs[0]
        link = await fleet.pool.connect("s1")
        await ask(link, rig.open_request())
        rig.engine.hold()
        await link.send(DraftBlock(round=1, base_position=0))
        receiving = asyncio.create_task(link.receive())
        done, _ = await asyncio.wait({receiving}, timeout=1.5)
        assert not done
        rig.engine.release()
        async with asyncio.timeout(10):
            assert (await receiving).token == reference(rig.engine, 1)[0]
        await link.close()


async def test_a_dead_address_in_the_list_costs_no_request_anything(tmp_path: Path) -> None:
    dead = [f"unix://{tmp_path}/nobody-{number}.sock" for number in range(3)]
    async with running_fleet(tmp_path, 1, more=dead, connect_timeout_s=60) as fleet:
        async with asyncio.timeout(30):
            for number in range(8):
                walk = Walk(fleet.rigs[0], f"s{number}")
                assert await walk.run(fleet.pool, 6) == truth(fleet, 6)
                assert walk.errors == []


async def test_nobody_there_is_said_in_time(tmp_path: Path) -> None:
    dead = [f"unix://{tmp_path}/nobody-{number}.sock" for number in range(2)]
    async with running_fleet(tmp_path, 0, more=dead, detect_s=0.2) as fleet:
        with pytest.raises(VerifierUnavailable, match="suspect"):
            await fleet.pool.connect("s1")
        with pytest.raises(VerifierUnavailable):
            await fleet.pool.info()


async def test_a_verifier_that_drains_gives_its_sessions_away(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, 2, drain_s=60.0) as fleet:
        walks = [Walk(fleet.rigs[0], f"s{number}") for number in range(8)]
        stopping: list[asyncio.Task[None]] = []
        drained = fleet.rigs[0]

        async def drain(count: int) -> None:
            if count >= 8 and not stopping:
                stopping.append(asyncio.create_task(drained.app.stop()))

        outputs = await asyncio.gather(*(walk.run(fleet.pool, 30, between=drain) for walk in walks))
        assert outputs == [truth(fleet, 30)] * 8
        async with asyncio.timeout(20):
            await stopping[0]
        errors = [error for walk in walks for error in walk.errors]
        assert {type(error) for error in errors} <= {SessionMoved, SessionLost}
        assert {walk.addresses[-1] for walk in walks} == {fleet.addresses[1]}
        assert drained.engine.opened_sessions == drained.engine.closed_sessions


async def test_rolling_restarts_end_no_stream(tmp_path: Path) -> None:
    """Two verifiers behind fixed sockets are replaced one after the other, three times."""
    from hola_verifier.app import build

    async with running_fleet(tmp_path, 2, drain_s=10.0) as fleet:
        apps = [rig.app for rig in fleet.rigs]
        walks = [Walk(fleet.rigs[0], f"s{number}") for number in range(6)]
        running = [asyncio.create_task(walk.run(fleet.pool, 60)) for walk in walks]
        for turn in range(3):
            for number, rig in enumerate(fleet.rigs):
                await apps[number].stop()
                apps[number] = build(rig.settings, target=rig.target)
                await apps[number].start()
                await asyncio.sleep(0.05 * turn)
        try:
            async with asyncio.timeout(60):
                assert await asyncio.gather(*running) == [truth(fleet, 60)] * 6
            assert all(walk.exactness == {"EXACT"} for walk in walks)
        finally:
            for app in apps:
                await app.stop()


async def test_equal_numerics_are_preferred_and_others_are_the_last_resort(tmp_path: Path) -> None:
    seeds = [0, 0, 9]
    async with running_fleet(
        tmp_path, 3, engines=lambda number: WatchedEngine(seed=seeds[number]), drain_s=0.0
    ) as fleet:
        wanted = fleet.rigs[0].target.digest
        assert fleet.rigs[2].target.digest != wanted
        for number in range(12):
            link = await fleet.pool.connect(f"s{number}", fingerprint=wanted)
            assert link.address != fleet.addresses[2]
            await link.close()
        for rig in fleet.rigs[:2]:
            await rig.app.stop()
        async with asyncio.timeout(20):
            link = await fleet.pool.connect("s1", fingerprint=wanted)
        assert link.address == fleet.addresses[2]
        opened = await ask(link, fleet.rigs[2].open_request(required_fingerprint=wanted))
        assert opened.exactness.name == "DEGRADED"
        await link.close()


async def test_one_session_goes_from_a_full_verifier_to_another(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, 2, max_sessions=1) as fleet:
        first = Walk(fleet.rigs[0], "a")
        second = Walk(fleet.rigs[0], "b")
        both = asyncio.gather(first.run(fleet.pool, 25), second.run(fleet.pool, 25))
        async with asyncio.timeout(30):
            assert await both == [truth(fleet, 25)] * 2


async def test_states_are_counted(tmp_path: Path) -> None:
    patient = {"detect_s": 30.0, "connect_timeout_s": 30.0}  # a slow machine is no failure
    async with running_fleet(tmp_path, 2, drain_s=0.0, resolve_s=0.2, **patient) as fleet:
        link = await fleet.pool.connect("s1")
        assert value(fleet.metrics, "hola_pool_addresses", state="healthy") == 2
        gone = next(address for address in fleet.addresses if address != link.address)
        await fleet.rig_at(gone).app.stop()
        await eventually(
            lambda: value(fleet.metrics, "hola_pool_addresses", state="suspect") == 1,
            "the stopped one is suspect",
            timeout_s=60,  # half of detect_s where the connection is lost before the question
        )
        await link.close()


async def test_a_setting_that_forbids_the_address_is_said_at_once() -> None:
    """Plaintext to another machine is not a verifier that is away."""
    pool = VerifierPool("grpc://192.0.2.1:7072,grpc://192.0.2.2:7072", fleet_settings())
    with pytest.raises(ConfigError, match="HOLA_INSECURE"):
        await pool.connect("s1")
    await pool.close()


async def test_a_lone_verifier_that_restarts_is_waited_for(tmp_path: Path) -> None:
    from hola_verifier.app import build

    async with running_fleet(tmp_path, 1, drain_s=0.0) as fleet:
        rig = fleet.rigs[0]
        apps = [rig.app]
        walks = [Walk(rig, f"s{number}") for number in range(6)]
        restarting: list[asyncio.Task[None]] = []

        async def restart() -> None:
            await apps[0].stop()
            apps[0] = build(rig.settings, target=rig.target)
            await asyncio.sleep(0.3)
            await apps[0].start()

        async def between(count: int) -> None:
            if count >= 10 and not restarting:
                restarting.append(asyncio.create_task(restart()))

        try:
            async with asyncio.timeout(60):
                outputs = await asyncio.gather(
                    *(walk.run(fleet.pool, 30, between=between) for walk in walks)
                )
                await restarting[0]
            assert outputs == [truth(fleet, 30)] * 6
        finally:
            await apps[0].stop()


async def test_sessions_that_open_again_wait_their_turn_and_new_ones_do_not(
    tmp_path: Path,
) -> None:
    async with running_fleet(tmp_path, 2, connect_timeout_s=0.2) as fleet:
        link = await fleet.pool.connect("again")
        lost = SessionLost("the stream broke")
        fleet.pool.lost(link, lost)  # type: ignore[arg-type]
        while fleet.pool._budget.spend():
            pass
        for _ in range(40):
            fleet.pool._budget.reserve(1000)
        with pytest.raises(VerifierUnavailable, match="too many sessions"):
            await fleet.pool.connect("again")
        fresh = await fleet.pool.connect("fresh")
        await fresh.close()
        await link.close()
