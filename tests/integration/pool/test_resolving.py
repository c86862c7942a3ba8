"""How a pool finds its verifiers: names whose records change, and a registry they announce in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hola.bus.memory import MemoryBus
from hola.errors import BusUnavailable, SessionMoved, VerifierUnavailable
from hola.rpc import verifier_sources
from hola.rpc.verifier_pool import VerifierPool
from hola.types import VerifierRecord
from hola_verifier.announce import Announcer
from hola_verifier.app import build
from tests.support.fleet import SAMPLING, Walk, fleet_settings, running_fleet
from tests.support.verifier import ask, eventually, plain, reference, running_verifier


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A resolver that the test writes; an unknown name is an error, as with a real one."""
    table: dict[str, list[str]] = {}

    async def lookup(host: str, port: int) -> list[str]:
        if host not in table:
            raise OSError(f"{host}: Name or service not known")
        return table[host]

    monkeypatch.setattr(verifier_sources, "resolve", lookup)
    return table


async def test_a_name_s_verifiers_are_found_and_lost_as_its_records_change(
    tmp_path: Path, names: dict[str, list[str]]
) -> None:
    """127.0.0.1 and 127.0.0.2 are two pods of one headless service, on one port."""
    async with running_verifier("loopback", tmp_path, drain_s=0.0) as rig:
        port = int(rig.app.address.rpartition(":")[2])
        settings = fleet_settings(resolve_s=0.1)
        pool = VerifierPool(f"dns:///verifiers.svc:{port}", settings)
        with pytest.raises(VerifierUnavailable, match="none found"):
            await pool.connect("s1")
        names["verifiers.svc"] = ["127.0.0.1"]
        link = await pool.connect("s1")
        second = build(
            rig.settings.model_copy(update={"listen": f"127.0.0.2:{port}"}), target=rig.target
        )
        await second.start()
        try:
            names["verifiers.svc"] = ["127.0.0.1", "127.0.0.2"]
            found = pool.metrics.registry.get_sample_value
            labels = {"state": "healthy"}
            await eventually(
                lambda: found("hola_pool_addresses", labels) == 2, "the second one is found"
            )
            names["verifiers.svc"] = ["127.0.0.2"]
            await eventually(
                lambda: found("hola_pool_addresses", labels) == 1, "the first one is dismissed"
            )
            walk = Walk(rig, "s2")
            assert await walk.run(pool, 8) == reference(rig.engine, 8, SAMPLING)
            assert walk.addresses == [f"grpc://127.0.0.2:{port}"]
            # Who was there before stays where it is.
            assert (await _tokens(link, rig)) == reference(rig.engine, 3)
            await link.close()
            names.clear()
            again = await pool.connect("s3")
            await again.close()
        finally:
            await second.stop()
            await pool.close()


async def _tokens(link: Any, rig: Any) -> list[int]:
    await ask(link, rig.open_request())
    return await plain(link, 3)


async def test_localhost_is_a_name(tmp_path: Path) -> None:
    async with running_verifier("loopback", tmp_path) as rig:
        port = rig.app.address.rpartition(":")[2]
        pool = VerifierPool(f"dns:///localhost:{port}", fleet_settings())
        assert await Walk(rig).run(pool, 5) == reference(rig.engine, 5, SAMPLING)
        await pool.close()


async def test_verifiers_announce_themselves_and_withdraw(tmp_path: Path) -> None:
    bus = MemoryBus()
    address = f"unix://{tmp_path}/verifier.sock"
    async with running_verifier("unix", tmp_path) as first:
        await first.app.stop()
        settings = first.settings.model_copy(update={"advertise": address, "drain_s": 30.0})
        app = build(settings, target=first.target, bus=bus)
        pool = VerifierPool("registry:", fleet_settings(resolve_s=0.1), registry=bus.registry)
        with pytest.raises(VerifierUnavailable):
            await pool.connect("s1")
        await app.start()
        try:
            await _announced(bus, [address])
            (record,) = await bus.registry.verifiers()
            assert record.info.fingerprint == first.target.digest
            walk = Walk(first)
            assert await walk.run(pool, 8) == reference(first.engine, 8, SAMPLING)
            assert walk.addresses == [address]
            link = await pool.connect("idle")
            await ask(link, first.open_request(session_id="idle"))
            stopping = asyncio.create_task(app.stop())
            with pytest.raises(SessionMoved):
                async with asyncio.timeout(20):
                    await link.receive()
            await _announced(bus, [])
            await link.close()
            async with asyncio.timeout(20):
                await stopping
        finally:
            await app.stop()
            await pool.close()
            await bus.close()


async def _announced(bus: MemoryBus, addresses: list[str]) -> None:
    """Wait until these are in the registry, which has no event to wait for."""
    async with asyncio.timeout(10):
        while [record.address for record in await bus.registry.verifiers()] != addresses:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_registry_that_fails_or_forgets_is_not_believed(tmp_path: Path) -> None:
    """Redis restarts: the drafters go on with the verifiers they know."""

    class Registry:
        def __init__(self) -> None:
            self.records: tuple[VerifierRecord, ...] | None = None

        async def announce(self, record: VerifierRecord, *, ttl_s: float) -> None:
            raise NotImplementedError

        async def withdraw(self, address: str) -> None:
            raise NotImplementedError

        async def verifiers(self) -> tuple[VerifierRecord, ...]:
            if self.records is None:
                raise BusUnavailable("no Redis")
            return self.records

    async with running_fleet(tmp_path, 1) as fleet:
        rig = fleet.rigs[0]
        registry = Registry()
        pool = VerifierPool("registry:", fleet_settings(resolve_s=0.05), registry=registry)
        registry.records = (VerifierRecord(address=rig.app.address, info=rig.app.host.info()),)
        kept = await pool.connect("s0")
        for records in ((), None):
            registry.records = records
            await asyncio.sleep(0.3)
            assert await Walk(rig, "s1").run(pool, 4) == reference(rig.engine, 4, SAMPLING)
        await kept.close()
        await pool.close()


async def test_an_announcer_outlives_its_bus(tmp_path: Path) -> None:
    bus = MemoryBus()
    tries = 0

    async def open_bus() -> MemoryBus:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise BusUnavailable("not yet")
        return bus

    async with running_fleet(tmp_path, 1) as fleet:
        info = fleet.rigs[0].app.host.info
        announcer = Announcer("grpc://node-1:7072", info, open_bus, beat_s=0.01)
        running = asyncio.create_task(announcer.run())
        await _announced(bus, ["grpc://node-1:7072"])
        await announcer.withdraw()
        await asyncio.sleep(0.05)
        assert await bus.registry.verifiers() == ()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
