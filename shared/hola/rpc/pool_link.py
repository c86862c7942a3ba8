"""One session's stream through the pool: knows enough of the session to ask a second verifier."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from hola.errors import HolaError, SessionLost
from hola.rpc.hedge import Race
from hola.rpc.hedge_policy import HedgePolicy
from hola.rpc.pool_lane import Lane
from hola.telemetry import Metrics
from hola.types import (
    DraftBlock,
    Open,
    Opened,
    Verdict,
    VerifierRequest,
    VerifierResponse,
)


class Pool(Protocol):
    """What a link needs of its pool."""

    hedging: HedgePolicy
    metrics: Metrics

    def answered(self, link: PoolLink, answer: VerifierResponse) -> None:
        """The session goes on."""
        ...

    def lost(self, link: PoolLink, error: HolaError) -> HolaError:
        """The session cannot go on here; what its owner is to be told."""
        ...

    def has_equal(self, link: PoolLink, fingerprint: str) -> bool:
        """Whether another address of these numerics could take the session."""
        ...

    async def second(self, link: PoolLink, fingerprint: str, shift: int) -> Lane:
        """A lane at another verifier. Raises VerifierUnavailable when none is to be asked."""
        ...

    def retire(self, lane: Lane) -> None:
        """Close a lane in the background."""
        ...

    def left(self, link: PoolLink) -> None:
        """The link is closed."""
        ...


class PoolLink:
    """VerifierLink on one lane at a time. `fingerprint`: the numerics the session has so far."""

    def __init__(self, pool: Pool, lane: Lane, session_id: str, fingerprint: str) -> None:
        self.session_id = session_id
        self._pool = pool
        self._lane = lane
        self._fingerprint = fingerprint
        self._opening: Open | None = None
        self._block: DraftBlock | None = None
        self._committed: list[int] = []
        self._closed = False

    @property
    def address(self) -> str:
        """The verifier that has the session now."""
        return self._lane.member.address

    @property
    def seconds(self) -> float:
        """What the last answer took."""
        return self._lane.seconds

    async def send(self, message: VerifierRequest) -> None:
        """Send a message. Raises SessionLost, or the error the verifier has ended with."""
        self._block = message if isinstance(message, DraftBlock) else None
        if isinstance(message, Open):
            self._opening, self._committed = message, list(message.committed)
        try:
            await self._lane.send(message)
        except HolaError as error:
            raise self._pool.lost(self, error) from None

    async def receive(self) -> VerifierResponse:
        """Next answer. Raises the HolaError the verifier ended with, SessionLost or BadAnswer."""
        try:
            answer = await self._next()
            if isinstance(answer, Opened):
                self._check_numerics(answer)
        except HolaError as error:
            raise self._pool.lost(self, error) from None
        if isinstance(answer, Verdict) and self._block is not None:
            self._committed.extend(self._block.tokens[: answer.accepted])
            if answer.token is not None:
                self._committed.append(answer.token)
        self._pool.answered(self, answer)
        return answer

    async def close(self) -> None:
        """End the stream. Idempotent."""
        if not self._closed:
            self._closed = True
            self._pool.left(self)
        await self._lane.close()

    async def _next(self) -> VerifierResponse:
        """The answer of this lane, or of another one that becomes this session's."""
        after_s = self._pool.hedging.after_s()
        block, opening = self._block, self._opening
        if after_s is None or block is None or opening is None:
            return await self._lane.receive()
        opening = replace(
            opening,
            committed=tuple(self._committed),
            required_fingerprint=self._fingerprint,
            allow_degraded=False,
        )

        async def second(shift: int) -> Lane:
            return await self._pool.second(self, self._fingerprint, shift)

        race = Race(self._lane, opening, block, second)
        try:
            return await race.run(after_s)
        finally:
            if race.loser is not None:
                outcome = "lost" if race.winner is self._lane else "won"
                self._pool.metrics.hedges.labels(outcome).inc()
                self._pool.retire(race.loser)
            self._lane = race.winner

    def _check_numerics(self, opened: Opened) -> None:
        """A verifier that has changed since we chose it must not cost the text its exactness."""
        wanted = self._fingerprint
        if wanted and opened.fingerprint != wanted and self._pool.has_equal(self, wanted):
            raise SessionLost(
                f"verifier {self.address} computes other bits now, and there is one that does not"
            )
        self._fingerprint = opened.fingerprint
