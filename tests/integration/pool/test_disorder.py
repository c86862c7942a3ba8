"""Everything at once, at random: cables freeze, verifiers restart and stumble, texts stay right."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from hola_verifier.app import VerifierApp, build
from tests.support.fleet import SAMPLING, Fleet, Walk, running_fleet
from tests.support.verifier import eventually, reference

COUNT = 3
LENGTH = 60
FAULTS = 12


class Disorder:
    """One fault after the other, each undone before the next; two verifiers are always sound."""

    def __init__(self, fleet: Fleet, dice: random.Random) -> None:
        self._fleet = fleet
        self._dice = dice
        self._apps: list[VerifierApp] = [rig.app for rig in fleet.rigs]
        self.done: list[str] = []

    async def run(self) -> None:
        for _ in range(FAULTS):
            kind = self._dice.choice([self._freeze, self._restart, self._stumble])
            number = self._dice.randrange(COUNT)
            self.done.append(f"{kind.__name__} {number}")
            await kind(number)
            await asyncio.sleep(self._dice.random() * 0.1)

    async def close(self) -> None:
        for app in self._apps:
            await app.stop()

    async def _freeze(self, number: int) -> None:
        self._fleet.cables[number].freeze()
        try:
            await asyncio.sleep(self._dice.random() * 1.5)
        finally:
            self._fleet.cables[number].thaw()

    async def _restart(self, number: int) -> None:
        """At the same port, since the cable ends there; killed or drained."""
        rig, old = self._fleet.rigs[number], self._apps[number]
        place = old.address.removeprefix("grpc://")
        drain_s = self._dice.choice([0.0, 5.0])
        await old.stop()
        settings = rig.settings.model_copy(update={"listen": place, "drain_s": drain_s})
        self._apps[number] = build(settings, target=rig.target)
        await self._apps[number].start()

    async def _stumble(self, number: int) -> None:
        engine = self._fleet.rigs[number].engine
        engine.hold()
        try:
            await asyncio.sleep(self._dice.random() * 0.3)
        finally:
            engine.release()


@pytest.mark.parametrize("hedge", ["off", "p95"])
@pytest.mark.parametrize("seed", range(2))
async def test_no_text_changes_whatever_happens(tmp_path: Path, seed: int, hedge: str) -> None:
    """Replay with the seed; the faults that were done are in the message."""
    async with running_fleet(
        tmp_path, COUNT, cables=True, detect_s=0.6, hedge=hedge, drain_s=2.0, max_sessions=6
    ) as fleet:
        disorder = Disorder(fleet, random.Random(seed))
        truth = reference(fleet.rigs[0].engine, LENGTH, SAMPLING)
        walks: list[Walk] = []

        async def client(number: int) -> None:
            """Sessions one after the other until the disorder is over."""
            while not faults.done() or not walks:
                walk = Walk(fleet.rigs[0], f"client-{number}-{len(walks)}")
                walks.append(walk)
                tokens = await walk.run(fleet.pool, LENGTH, tries=2000)
                assert tokens == truth, f"seed {seed}: {disorder.done}"
                assert walk.exactness == {"EXACT"}, f"seed {seed}: {disorder.done}"

        faults = asyncio.create_task(disorder.run())
        try:
            async with asyncio.timeout(100):
                await asyncio.gather(*(client(number) for number in range(6)))
                await faults
            assert sum(len(walk.errors) for walk in walks) > 0, f"seed {seed}: nothing happened"
            await fleet.pool.close()
            for app in disorder._apps:
                await eventually(
                    lambda app=app: app.host.info().active_sessions == 0, "no stream is left"
                )
        finally:
            faults.cancel()
            await asyncio.gather(faults, return_exceptions=True)
            await disorder.close()
