"""Carries a schedule of faults out on a fleet, and notes when each really came and was over."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hola.errors import HolaError
from hola_bench.chaos.fleet import Fleet
from hola_bench.chaos.network import Network
from hola_bench.chaos.schedule import Fault, Kind

SETTLE_S = 120.0
# A machine that is too slow for the schedule gets fewer faults, not a run without an end.
LAST_FAULT_S = 660.0


@dataclass(slots=True, kw_only=True)
class Injected:
    """A fault as it happened: `hit_s` and `over_s` are seconds since the start of the run."""

    fault: Fault
    hit_s: float
    over_s: float = 0.0
    note: str = ""


class Injector:
    """Plays faults in order. A fault waits until its target serves, a quiet one for the fleet."""

    def __init__(self, fleet: Fleet, network: Network, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._network = network
        self._clock = clock
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self.injected: list[Injected] = []

    async def play(self, faults: Sequence[Fault]) -> None:
        """All of them, to their ends. Raises HolaError when a process does not come back."""
        late_s = 0.0
        try:
            for fault in faults:
                await asyncio.sleep(fault.at_s + late_s - self._clock())
                await self._settle(fault)
                if self._clock() > LAST_FAULT_S:
                    break
                late_s = max(0.0, self._clock() - fault.at_s)
                self._raise_trouble()
                task = asyncio.create_task(self._inject(fault))
                self._under_way |= dict.fromkeys(self._hit(fault), task)
            await asyncio.gather(*self._under_way.values())
        finally:
            for task in self._under_way.values():
                task.cancel()
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _hit(self, fault: Fault) -> Sequence[str]:
        """The processes it is about."""
        if fault.kind is not Kind.OUTAGE:
            return (fault.target,)
        role = fault.target.partition("-")[0]
        return [name for name in self._fleet.names if name.startswith(role)]

    async def _settle(self, fault: Fault) -> None:
        """Wait until the target, for a quiet fault the whole fleet, is whole again."""
        names = self._fleet.names if fault.quiet else self._hit(fault)
        for name in names:
            if name in self._under_way:
                await self._under_way[name]
            await self._fleet.healthy(name, SETTLE_S)

    def _raise_trouble(self) -> None:
        for task in self._under_way.values():
            if task.done():
                task.result()

    async def _inject(self, fault: Fault) -> None:
        injected = Injected(fault=fault, hit_s=self._clock())
        self.injected.append(injected)
        try:
            if fault.kind in {Kind.CUT, Kind.LOSE, Kind.DELAY}:
                await self._spoil(fault)
            elif fault.kind is Kind.FREEZE:
                await self._freeze(fault)
            else:
                injected.note = await self._end_and_start(fault)
            for name in self._hit(fault):
                await self._fleet.healthy(name, SETTLE_S)
        except HolaError as error:
            injected.note = error.message.partition("\n")[0]
            raise
        finally:
            injected.over_s = self._clock()

    async def _spoil(self, fault: Fault) -> None:
        await self._network.spoil(fault.target, fault.kind, fault.amount)
        try:
            await asyncio.sleep(fault.for_s)
        finally:
            await self._network.heal(fault.target)

    async def _freeze(self, fault: Fault) -> None:
        self._fleet.signal(fault.target, signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.for_s)
        finally:
            self._fleet.signal(fault.target, signal.SIGCONT)

    async def _end_and_start(self, fault: Fault) -> str:
        note = ""
        if fault.kind is Kind.TERM:
            ended = await self._fleet.terminate(fault.target)
            note = f"exit code {ended.code} after {ended.seconds:.1f} s"
        else:
            for name in self._hit(fault):
                await self._fleet.kill(name)
        await asyncio.sleep(fault.for_s)
        for name in self._hit(fault):
            await self._fleet.start(name)
        return note
