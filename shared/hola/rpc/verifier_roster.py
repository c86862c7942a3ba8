"""Keeps the members of a pool up to date: looks, asks and forgets while the pool is in use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial

from hola.config import Settings
from hola.errors import ConfigError, HolaError
from hola.rpc.verifier_choice import Candidate
from hola.rpc.verifier_member import Member
from hola.rpc.verifier_sources import Found, Source
from hola.telemetry import Metrics, get_logger

log = get_logger(__name__)

STATES = ("healthy", "suspect", "draining", "open")
# Looks that find the pool unused before it stops looking: an idle drafter costs nothing.
_IDLE_LOOKS = 2
# Trouble may call for a look at once, but not for more than one in this time.
_SHORTEST_PAUSE_S = 0.2


class Roster:
    """The members by address. Use from one event loop.

    `links` is the number of streams in use, kept by the pool; while there are any the source is
    looked at every HOLA_RESOLVE_S, and at once after trouble, and all members are asked for Info.
    """

    def __init__(
        self, source: Source, settings: Settings, metrics: Metrics, *, clock: Callable[[], float]
    ) -> None:
        self.members: dict[str, Member] = {}
        self.links = 0
        self._source = source
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._leaving: set[Member] = set()
        self._first_look: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._trouble = asyncio.Event()
        self._closed = False
        for state in STATES:
            gauge = metrics.pool_addresses.labels(state)
            gauge.set_function(partial(self._count, state))

    def candidates(self, shunned: Sequence[str] = ()) -> list[Candidate]:
        """What the choice of an address needs to know; `shunned` have failed this session."""
        return [
            member.candidate(shunned=address in shunned) for address, member in self.members.items()
        ]

    async def ready(self) -> None:
        """Wait until the source has been looked at, and keep looking from now on.

        Bounded by HOLA_CONNECT_TIMEOUT_S; finding nobody is no error here.
        """
        if not self.members and not self._closed:
            if self._first_look is None or self._first_look.done():
                self._first_look = asyncio.create_task(self._look())
            await asyncio.shield(self._first_look)
        if (self._watching is None or self._watching.done()) and not self._closed:
            self._watching = asyncio.create_task(self._watch())

    async def know_numerics(self) -> None:
        """Ask the members whose fingerprint is not known, if there is a choice at all."""
        unknown = [m for m in self.members.values() if not (m.is_known or m.suspect)]
        if unknown and len(self.members) > 1:
            await asyncio.gather(*(member.probe() for member in unknown))

    async def recheck(self) -> None:
        """Look again and ask everybody, after which nothing is left of what was known."""
        await self._look()
        await self._ask_all()

    async def close(self) -> None:
        """End all streams and channels. Idempotent."""
        self._closed = True
        tasks = [task for task in (self._first_look, self._watching) if task is not None]
        try:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            everybody = [*self.members.values(), *self._leaving]
            await asyncio.gather(*(member.close() for member in everybody))

    async def _watch(self) -> None:
        """Look and ask, until the pool has not been used for a while."""
        unused = 0
        while unused < _IDLE_LOOKS:
            self._trouble.clear()
            await self._look()
            await self._ask_all()
            await asyncio.sleep(_SHORTEST_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.resolve_s):
                    await self._trouble.wait()
            unused = 0 if self.links else unused + 1

    async def _ask_all(self) -> None:
        """Load, numerics and life of all, where there is a choice; of one, whether it is back."""
        asked = [
            member
            for member in self.members.values()
            if len(self.members) > 1 or member.suspect or member.draining
        ]
        await asyncio.gather(*(member.probe() for member in asked))

    async def _look(self) -> None:
        """Take in what the source says; what cannot be asked, or knows nobody, is not believed."""
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                found = await self._source.look()
        except (HolaError, TimeoutError) as error:
            log.warning("verifiers_not_resolved", why=str(error) or "no answer in time")
            return
        self._admit(found)
        if found:
            self._dismiss(found)
        await self._sweep()

    def _admit(self, found: Found) -> None:
        for address, info in found.items():
            member = self.members.get(address)
            if member is None:
                member = self._member(address)
            if member is not None and info is not None and not member.is_known:
                member.learn(info)

    def _member(self, address: str) -> Member | None:
        try:
            member = Member(
                address,
                self._settings,
                self._metrics,
                clock=self._clock,
                on_trouble=self._trouble.set,
                server_name=self._source.server_name,
            )
        except ConfigError as error:
            log.warning("verifier_address_ignored", why=error.message)
            return None
        self.members[address] = member
        return member

    def _dismiss(self, found: Found) -> None:
        """Who is not named any more gets no new session; its channel goes with its last one."""
        for address in [address for address in self.members if address not in found]:
            self._leaving.add(self.members.pop(address))

    async def _sweep(self) -> None:
        unused = [member for member in self._leaving if not member.waiters]
        self._leaving.difference_update(unused)
        await asyncio.gather(*(member.close() for member in unused))

    def _count(self, state: str) -> float:
        return sum(member.state == state for member in self.members.values())
