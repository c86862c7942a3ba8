"""One chaos run: a fleet, its faults and its clients, side by side until both are through."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from hola.config import Settings
from hola.errors import HolaError
from hola_bench.chaos.behaviour import Crowd, draw_plan
from hola_bench.chaos.client import Client, Routers
from hola_bench.chaos.fleet import Exit, Fleet
from hola_bench.chaos.inject import Injected, Injector
from hola_bench.chaos.namespaces import Namespaces
from hola_bench.chaos.network import Network
from hola_bench.chaos.relays import Relays
from hola_bench.chaos.schedule import Fault, Shape, draw_faults, rolling_restart
from hola_bench.chaos.transcript import Transcript
from hola_bench.chaos.workload import Work
from hola_bench.models import Models

# What differs from the defaults, so that a run meets many takeovers in few minutes.
SETTINGS: dict[str, object] = {"job_idle_s": 3, "drain_s": 2, "queue_limit": 1024}
# A client pings its routers, to notice one that is frozen or cut off.
CLIENT = Settings(keepalive_s=1, insecure=True)
STREAM_LIMIT_S = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What one run does: everything random follows from `seed`.

    With `rolling` there are no other faults than so many rolling restarts of the verifiers, and
    clients only read.
    """

    seed: int
    streams: int
    faults: int
    together: int
    shape: Shape
    namespaces: bool
    rolling: int = 0
    logs: Path | None = None


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a run gave; `trouble` is why it was broken off, if it was."""

    faults: tuple[Fault, ...] = ()
    injected: list[Injected] = field(default_factory=list)
    transcripts: list[Transcript] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    network: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    trouble: str = ""


async def play(scenario: Scenario, models: Models, work: Work) -> Outcome:
    """Run a scenario. Raises HolaError when the fleet does not come up."""
    outcome = Outcome()
    with _folder(scenario) as folder:
        async with _network(scenario, folder) as network:
            shape = Shape(
                verifiers=scenario.shape.verifiers,
                drafters=scenario.shape.drafters,
                routers=scenario.shape.routers,
                links=network.links,
            )
            outcome.network = network.notes
            outcome.faults = _faults(scenario, shape)
            fleet = Fleet(shape, models, network, folder, {"": SETTINGS})
            try:
                await fleet.up()
                await _Run(scenario, fleet, network, work, outcome).play()
            finally:
                await fleet.down()
    return outcome


class _Run:
    def __init__(
        self, scenario: Scenario, fleet: Fleet, network: Network, work: Work, outcome: Outcome
    ) -> None:
        self._scenario = scenario
        self._fleet = fleet
        self._work = work
        self._outcome = outcome
        self._began = time.monotonic()
        self._injector = Injector(fleet, network, self._clock)
        self._numbers = itertools.count()
        self._routers: Routers
        self._crowd = Crowd(
            seed=scenario.seed,
            cases=len(work.cases),
            tiers=work.tiers,
            routers=scenario.shape.routers,
            patient=bool(scenario.rolling),
        )

    async def play(self) -> None:
        """Faults and clients; streams go on until the faults are over and there are enough."""
        self._routers = Routers(self._fleet.routers, CLIENT)
        faults = asyncio.create_task(self._injector.play(self._outcome.faults))
        clients = [
            asyncio.create_task(self._client(faults)) for _ in range(self._scenario.together)
        ]
        telling = asyncio.create_task(self._tell())
        try:
            await asyncio.gather(*clients)
            await faults
        except HolaError as error:
            self._outcome.trouble = error.message
        finally:
            for task in (telling, faults, *clients):
                task.cancel()
            await asyncio.gather(telling, faults, *clients, return_exceptions=True)
            await self._routers.close()
            self._outcome.injected = self._injector.injected
            self._outcome.exits = self._fleet.exits
            self._outcome.seconds = self._clock()

    async def _tell(self) -> None:
        """How far it is, on a terminal."""
        ended = TextColumn("{task.fields[ended]}")
        columns = TextColumn("faults"), BarColumn(), MofNCompleteColumn(), ended
        console, is_silent = Console(stderr=True), not sys.stderr.isatty()
        with Progress(*columns, console=console, disable=is_silent) as bar:
            task = bar.add_task("", total=len(self._outcome.faults), ended="")
            while True:
                count = f"{len(self._outcome.transcripts)} streams"
                bar.update(task, completed=len(self._injector.injected), ended=count)
                await asyncio.sleep(1.0)

    async def _client(self, faults: asyncio.Task[None]) -> None:
        """One stream after the other."""
        while True:
            number = next(self._numbers)
            if faults.done() and (number >= self._scenario.streams or faults.exception()):
                return
            plan = draw_plan(self._crowd, number)
            case, text = self._work.cases[plan.case], self._work.texts[plan.case]
            client = Client(
                plan,
                case,
                text,
                self._routers,
                run_id=f"chaos-{self._scenario.seed}",
                clock=self._clock,
            )
            self._outcome.transcripts.append(await client.play(STREAM_LIMIT_S))

    def _clock(self) -> float:
        return time.monotonic() - self._began


def _faults(scenario: Scenario, shape: Shape) -> tuple[Fault, ...]:
    if scenario.rolling:
        return rolling_restart(shape, scenario.rolling)
    return draw_faults(scenario.seed, scenario.faults, shape)


@contextlib.contextmanager
def _folder(scenario: Scenario) -> Iterator[Path]:
    """Where sockets, logs and Redis's file are; kept when the scenario names a place for logs."""
    if scenario.logs is not None:
        scenario.logs.mkdir(parents=True, exist_ok=True)
        yield scenario.logs
        return
    with tempfile.TemporaryDirectory(prefix="hola-chaos-") as folder:
        yield Path(folder)


@contextlib.asynccontextmanager
async def _network(scenario: Scenario, folder: Path) -> AsyncIterator[Network]:
    network: Network
    network = await Namespaces.open() if scenario.namespaces else Relays(folder, scenario.seed)
    try:
        yield network
    finally:
        await network.close()
