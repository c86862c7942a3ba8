"""Many verifiers as one VerifierPort: finds them, picks one per session, leaves dead ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hola.bus.ports import Registry
from hola.checking import Checked, CheckRequest
from hola.config import Settings
from hola.errors import (
    EngineFailure,
    HolaError,
    InvalidRequest,
    MemoryBudgetExceeded,
    SessionLost,
    TokenizerMismatch,
    UnknownModel,
    VerifierUnavailable,
)
from hola.ports import VerifierLink
from hola.rpc.hedge_policy import HedgePolicy
from hola.rpc.pool_lane import Lane
from hola.rpc.pool_link import PoolLink
from hola.rpc.pool_memory import Trouble
from hola.rpc.retry_budget import RetryBudget
from hola.rpc.verifier_choice import order
from hola.rpc.verifier_client import GrpcVerifier
from hola.rpc.verifier_roster import Roster
from hola.rpc.verifier_sources import source_of
from hola.telemetry import Metrics, get_logger
from hola.types import Verdict, VerifierInfo, VerifierResponse

log = get_logger(__name__)
A = TypeVar("A")

# Others' trials may close a breaker before its pause is over.
_BREAKER_LOOK_S = 0.1
# What one verifier may refuse and another one grant.
_ITS_OWN = (EngineFailure, UnknownModel, TokenizerMismatch, MemoryBudgetExceeded)


class VerifierPool:
    """VerifierPort and AnswerCheck on all addresses that `spec` names. Use from one event loop.

    A link ends with SessionLost (or a kind) when its verifier died, fell silent, moved its
    sessions or answered wrongly: whoever holds it opens the session again, and `connect` picks
    another verifier.
    """

    def __init__(
        self,
        spec: str,
        settings: Settings,
        *,
        registry: Registry | None = None,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Looks for verifiers when first used. Raises ConfigError on a malformed `spec`.

        `registry` is used for "registry:", and not closed.
        """
        self.metrics = metrics or Metrics()
        self.hedging = HedgePolicy(enabled=settings.hedge == "p95")
        self._spec = spec
        self._settings = settings
        source = source_of(spec, registry)
        self._roster = Roster(source, settings, self.metrics, clock=clock)
        self._budget = RetryBudget(clock)
        self._trouble = Trouble()
        self._links: set[PoolLink] = set()
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """As configured."""
        return self._spec

    async def info(self) -> VerifierInfo:
        """What the first verifier that answers says of itself. Raises VerifierUnavailable."""
        return await self._first(lambda client: client.info())

    async def check(self, request: CheckRequest) -> Checked:
        """As AnswerCheck: of the first verifier that answers."""
        return await self._first(lambda client: client.check(request))

    async def _first(self, ask: Callable[[GrpcVerifier], Awaitable[A]]) -> A:
        await self._roster.ready()
        trouble: HolaError | None = None
        members = [self._roster.members[address] for address in self._order("", "")]
        for member in members:
            try:
                return await ask(member.client)
            except InvalidRequest:
                raise  # no other one would take it
            except HolaError as error:
                trouble = error
        raise trouble or self._nobody()

    async def connect(self, session_id: str = "", *, fingerprint: str = "") -> VerifierLink:
        """A stream to the verifier that `verifier_choice.order` picks, or the next that answers.

        Raises VerifierUnavailable when none can be reached, or retries have used up their budget.
        """
        if self._trouble.of(session_id):
            await self._pace()
        await self._roster.ready()
        if fingerprint:
            await self._roster.know_numerics()
        addresses = self._order(session_id, fingerprint)
        if not addresses:
            await self._roster.recheck()
            addresses = self._order(session_id, fingerprint)
        trouble: HolaError | None = None
        for attempt, address in enumerate(addresses):
            if attempt:
                await self._pace()
            longest_s = self._settings.connect_timeout_s
            if attempt < len(addresses) - 1:  # not waited for any longer than a silent one
                longest_s = min(longest_s, self._settings.detect_s)
            try:
                lane = await self._lane(address, longest_s, patient=len(addresses) == 1)
            except VerifierUnavailable as error:
                self._trouble.note(session_id, address)
                trouble = error
            else:
                return self._linked(lane, session_id, fingerprint)
        raise self._nobody(trouble)

    async def close(self) -> None:
        """Close all links and channels. Idempotent."""
        try:
            await asyncio.gather(*(link.close() for link in list(self._links)))
            await asyncio.gather(*self._retiring, return_exceptions=True)
        finally:
            await self._roster.close()

    # What links ask for.

    def answered(self, link: PoolLink, answer: VerifierResponse) -> None:
        """The session goes on."""
        self._budget.earn()
        if isinstance(answer, Verdict):
            self.hedging.observe(link.seconds)
            self._trouble.over(link.session_id)

    def lost(self, link: PoolLink, error: HolaError) -> HolaError:
        """The session cannot go on here; what its owner is to be told.

        What another verifier may do better is a SessionLost, until all have had their chances.
        """
        if not (isinstance(error, _ITS_OWN) or type(error) is HolaError):
            self._trouble.note(link.session_id, link.address)
            return error
        if self._trouble.refused(link.session_id, link.address, self._roster.members):
            return error
        log.warning("verifier_refused", address=link.address, reason=error.reason)
        return SessionLost(f"verifier {link.address}: {error.reason}: {error.message}")

    def has_equal(self, link: PoolLink, fingerprint: str) -> bool:
        """Whether another sound address of these numerics could take the session."""
        failed = self._trouble.of(link.session_id)
        return any(
            each.fingerprint == fingerprint
            and each.address not in (link.address, *failed)
            and not (each.suspect or each.paused or each.draining)
            for each in self._roster.candidates()
        )

    async def second(self, link: PoolLink, fingerprint: str, shift: int) -> Lane:
        """A lane at another sound verifier of equal numerics, for a second opinion.

        Raises VerifierUnavailable when there is none, or no retry to spare.
        """
        sound = [
            each
            for each in self._roster.candidates()
            if each.fingerprint == fingerprint
            and each.address != link.address
            and not (each.suspect or each.paused or each.shunned)
        ]
        addresses = order(sound, link.session_id, fingerprint)
        if not (fingerprint and addresses and self._budget.spend()):
            raise VerifierUnavailable("no second verifier to ask", address=self._spec)
        member = self._roster.members[addresses[0]]
        stream = await member.connect(self._settings.detect_s, patient=False)
        return Lane(member, stream, shift=shift)

    def retire(self, lane: Lane) -> None:
        """Close a lane in the background."""
        task = asyncio.create_task(lane.close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def left(self, link: PoolLink) -> None:
        """The link is closed."""
        self._links.discard(link)
        self._roster.links = len(self._links)

    def _order(self, session_id: str, fingerprint: str) -> tuple[str, ...]:
        failed = self._trouble.of(session_id)
        return order(self._roster.candidates(failed), session_id, fingerprint)

    async def _lane(self, address: str, longest_s: float, *, patient: bool) -> Lane:
        """A lane at this address. Raises VerifierUnavailable, and ConfigError, which stands."""
        member = self._roster.members.get(address)
        if member is None:
            raise VerifierUnavailable(f"verifier {address} is not named any more", address=address)
        while (left_s := member.breaker.wait_s()) > 0:  # noqa: ASYNC110 - a breaker is pure
            await asyncio.sleep(min(left_s, _BREAKER_LOOK_S))
        return Lane(member, await member.connect(longest_s, patient=patient))

    def _linked(self, lane: Lane, session_id: str, fingerprint: str) -> PoolLink:
        failed = self._trouble.of(session_id)
        if failed and lane.member.address != failed[-1]:
            self.metrics.failovers.inc()
        link = PoolLink(self, lane, session_id, fingerprint)
        self._links.add(link)
        self._roster.links = len(self._links)
        return link

    async def _pace(self) -> None:
        """Wait for a retry. Raises VerifierUnavailable when that would take too long."""
        wait_s = self._budget.reserve(self._settings.connect_timeout_s)
        if wait_s is None:
            raise VerifierUnavailable("too many sessions open again", address=self._spec)
        await asyncio.sleep(wait_s)

    def _nobody(self, trouble: HolaError | None = None) -> VerifierUnavailable:
        states = ", ".join(
            f"{member.address} is {member.state}" for member in self._roster.members.values()
        )
        last = "" if trouble is None else f"; {trouble.message}"
        return VerifierUnavailable(
            f"no verifier of {self._spec} can be reached ({states or 'none found'}{last})",
            address=self._spec,
        )
