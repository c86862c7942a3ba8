"""One load run: tenants side by side on a fleet, memory watched, then what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hola.config import Settings
from hola.rpc.router_client import RouterClient
from hola.security.api_keys import new_key
from hola_bench.chaos.fleet import Fleet
from hola_bench.chaos.schedule import Shape
from hola_bench.chaos.sockets import Sockets
from hola_bench.chaos.workload import Work
from hola_bench.load.crowd import HABIT_WEIGHTS, HABITS, Crowd, Habit, Served
from hola_bench.load.leftovers import Leftovers, look
from hola_bench.load.memory import Samples, watch
from hola_bench.load.options import Options
from hola_bench.models import Models

EQUALS = ("anna", "ben")
GREEDY, MODEST = "greedy", "modest"
TIMES_GREEDIER = 10
GREED_S = 30.0
LEAST_GREED_S = 8.0
GREED_WARM_S = 5.0
PATIENT = tuple(float(habit is Habit.READ) for habit in HABITS)
# Short lives for what nobody asks for, so that a run of minutes sees it go.
SETTINGS: dict[str, object] = {
    "journal_ttl_s": 20,
    "detach_grace_s": 5,
    "session_ttl_s": 20,
    "queue_limit": 1024,
    "drain_s": 2,
}


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a run gave. Spans are seconds since its start: the equal tenants', the greedy one's."""

    served: dict[str, Served] = field(default_factory=dict)
    samples: list[Samples] = field(default_factory=list)
    equal_span: tuple[float, float] = (0.0, 0.0)
    greedy_span: tuple[float, float] = (0.0, 0.0)
    leftovers: Leftovers | None = None


async def play(options: Options, models: Models, work: Work) -> Outcome:
    """Run the load. Raises HolaError when the fleet does not come up or a process ends."""
    shape = Shape(verifiers=options.verifiers, drafters=options.drafters, routers=options.routers)
    with _folder(options) as folder:
        keys = _write_keys(folder / "keys")
        router = {"api_keys": folder / "keys"}
        settings: dict[str, Mapping[str, object]] = {"": SETTINGS, "router": router}
        fleet = Fleet(shape, models, Sockets(folder), folder, settings)
        try:
            await fleet.up()
            return await _Run(options, fleet, work, keys).play()
        finally:
            await fleet.down()


class _Run:
    def __init__(self, options: Options, fleet: Fleet, work: Work, keys: dict[str, str]) -> None:
        self._options = options
        self._fleet = fleet
        self._work = work
        self._keys = keys
        self._began = time.monotonic()
        self._outcome = Outcome()

    async def play(self) -> Outcome:
        """Equal tenants for most of the time, then a greedy one, then nobody."""
        outcome = self._outcome
        outcome.samples = [Samples(name=name) for name in self._fleet.names]
        watching = asyncio.create_task(watch(self._fleet, outcome.samples, self._began))
        try:
            each = self._options.streams // 2
            outcome.equal_span = await self._together(
                dict.fromkeys(EQUALS, each), self._options.minutes * 60, HABIT_WEIGHTS
            )
            greed_s = min(GREED_S, max(LEAST_GREED_S, self._options.minutes * 60))
            modest = max(1, self._options.streams // (TIMES_GREEDIER + 1))
            outcome.greedy_span = await self._together(
                {GREEDY: modest * TIMES_GREEDIER, MODEST: modest}, greed_s, PATIENT
            )
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        outcome.leftovers = await look(self._fleet)
        return outcome

    async def _together(
        self, clients: dict[str, int], seconds: float, habits: tuple[float, ...]
    ) -> tuple[float, float]:
        """Some tenants with so many clients each, for a while; from when to when."""
        begin_s = self._now()
        async with self._crowds(tuple(clients)) as crowds:
            for tenant, count in clients.items():
                crowds[tenant].join(count, habits)
            await asyncio.sleep(seconds)
            end_s = self._now()
        return begin_s, end_s

    @contextlib.asynccontextmanager
    async def _crowds(self, tenants: tuple[str, ...]) -> AsyncIterator[dict[str, Crowd]]:
        address = next(iter(self._fleet.routers.values()))
        clients = {
            tenant: RouterClient(address, Settings(token=self._keys[tenant], insecure=True))
            for tenant in tenants
        }
        crowds = {
            tenant: Crowd(tenant, client, self._work, seed=self._options.seed, began=self._began)
            for tenant, client in clients.items()
        }
        self._outcome.served |= {tenant: crowd.served for tenant, crowd in crowds.items()}
        try:
            yield crowds
        finally:
            try:
                for crowd in crowds.values():
                    await crowd.leave()
            finally:
                for client in clients.values():
                    await client.close()

    def _now(self) -> float:
        return time.monotonic() - self._began


def _write_keys(file: Path) -> dict[str, str]:
    """An API key for each tenant; the file has their hashes."""
    keys = {tenant: new_key(tenant) for tenant in (*EQUALS, GREEDY, MODEST)}
    file.write_text("".join(f"{key.line}\n" for key in keys.values()), encoding="ascii")
    return {tenant: key.text for tenant, key in keys.items()}


@contextlib.contextmanager
def _folder(options: Options) -> Iterator[Path]:
    if options.logs:
        folder = Path(options.logs).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="hola-load-") as made:
        yield Path(made)
