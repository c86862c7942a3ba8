"""One verifier of a pool: its channel, what is known of it, and whether it still lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from hola.config import Settings
from hola.errors import (
    BadAnswer,
    DeadlineExceeded,
    HolaError,
    Overloaded,
    SessionLost,
    SessionMoved,
    VerifierUnavailable,
)
from hola.ports import VerifierLink
from hola.rpc.breaker import BreakerState, CircuitBreaker
from hola.rpc.silence import Silence
from hola.rpc.verifier_choice import Candidate
from hola.rpc.verifier_client import GrpcVerifier
from hola.telemetry import Metrics, get_logger
from hola.types import Opened, Verdict, VerifierInfo, VerifierResponse

log = get_logger(__name__)

# An answer that takes longer is not worth waiting for to the caller's own limit, which is just
# above: who is cut off by the caller is not seen to have failed.
_ANSWER_SHARE = 0.9
_FULL_FOR_S = 1.0
# How a call ends at a peer that is not there.
_NO_LIFE = (VerifierUnavailable, SessionLost, DeadlineExceeded)


class Waiter(Protocol):
    """A stream at this member that may owe an answer."""

    def abandon(self, why: SessionLost) -> None:
        """Stop waiting: raise `why` to whoever waits."""
        ...

    def __hash__(self) -> int: ...


class Member:
    """One address. Use from one event loop.

    Half of HOLA_DETECT_S without a sign of life while it owes an answer, and it is asked for Info;
    unanswered for the other half, it is `suspect` and everybody who waits for it is told.
    """

    def __init__(
        self,
        address: str,
        settings: Settings,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        on_trouble: Callable[[], None],
        server_name: str = "",
    ) -> None:
        """`clock` gives monotonic seconds; `on_trouble` is called whenever it fails somebody.

        Raises ConfigError on a malformed address.
        """
        self.address = address
        self.client = GrpcVerifier(address, settings, server_name=server_name)
        self.breaker = CircuitBreaker(clock)
        self.suspect = False
        self.draining = False
        self.waiters: set[Waiter] = set()
        self._clock = clock
        self._metrics = metrics
        self._on_trouble = on_trouble
        self._half_s = settings.detect_s / 2
        self._answer_s = settings.answer_timeout_s * _ANSWER_SHARE
        self._silence: Silence[Waiter] = Silence(clock, self._half_s)
        self._timer: asyncio.TimerHandle | None = None
        self._probing: asyncio.Task[bool] | None = None
        self._resets: set[asyncio.Task[None]] = set()
        self._connecting = 0
        self._closed = False
        self._fingerprint: str | None = None
        self._queue_depth = 0
        self._others = 0
        self._full_until = clock()

    @property
    def is_known(self) -> bool:
        """Whether its numerics are known."""
        return self._fingerprint is not None

    @property
    def state(self) -> str:
        """For people: healthy, suspect, draining, or open (its breaker)."""
        if self.draining:
            return "draining"
        if self.breaker.state is BreakerState.OPEN:
            return "open"
        return "suspect" if self.suspect else "healthy"

    def candidate(self, *, shunned: bool = False) -> Candidate:
        """What the choice of an address needs to know of it."""
        return Candidate(
            address=self.address,
            fingerprint=self._fingerprint,
            load=self._queue_depth + self._others + len(self.waiters),
            suspect=self.suspect,
            paused=self.breaker.state is BreakerState.OPEN,
            draining=self.draining,
            shunned=shunned or self._clock() < self._full_until,
        )

    async def connect(self, timeout_s: float, *, patient: bool) -> VerifierLink:
        """A stream to it. Raises VerifierUnavailable, and then it is suspect."""
        if self._closed:
            raise VerifierUnavailable(f"verifier {self.address} has left", address=self.address)
        self.breaker.begin()
        self._connecting += 1
        try:
            return await self.client.connect(timeout_s=timeout_s, patient=patient)
        except HolaError:
            self._fail()
            self._on_trouble()
            raise
        finally:
            self._connecting -= 1

    def learn(self, info: VerifierInfo) -> None:
        """What it says of itself, or the registry of it."""
        self._fingerprint = info.fingerprint
        self._queue_depth = info.queue_depth
        self._others = max(0, info.active_sessions - len(self.waiters))
        self.draining = info.draining

    def asked(self, waiter: Waiter) -> None:
        """A question is on its way; `answered` or `forgotten` ends the wait."""
        self._silence.asked(waiter)
        self._watch()

    def answered(self, waiter: Waiter, answer: VerifierResponse) -> float:
        """A sound answer came; the seconds it took."""
        self._silence.heard()
        self.suspect = False
        self.breaker.succeeded()
        if isinstance(answer, Opened):
            self._fingerprint = answer.fingerprint
        if isinstance(answer, Opened | Verdict):
            self._queue_depth = answer.queue_depth
        return self._silence.forget(waiter) or 0.0

    def forgotten(self, waiter: Waiter) -> None:
        """Nobody waits for the answer any more."""
        self._silence.forget(waiter)

    def failed(self, error: HolaError) -> None:
        """A stream at it ended with this error, which is not the caller's fault."""
        match error:
            case SessionMoved():
                self._silence.heard()
                self.draining = True
            case Overloaded():
                self._silence.heard()
                self._full_until = self._clock() + _retry_after_s(error)
            case BadAnswer():
                log.error("verifier_answers_wrongly", address=self.address, why=error.message)
                self._count(self.breaker.trip())
            case _:
                self._fail()
        self._on_trouble()

    async def probe(self) -> bool:
        """Ask it for Info, once however many ask: whether it lives. Never raises HolaError."""
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe())
        return await asyncio.shield(self._probing)

    async def close(self) -> None:
        """End every stream and the channel. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        tasks: list[asyncio.Task[Any]] = [*self._resets]
        if self._probing is not None:
            tasks.append(self._probing)
        try:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self.client.close()

    async def _probe(self) -> bool:
        began = self._clock()
        try:
            self.learn(await self.client.info(self._half_s))
        except _NO_LIFE as error:
            if self._silence.heard_since(began):
                return True
            self._die(error)
            return False
        except HolaError as error:
            # A refusal (too many calls, say) is a sign of life, though not of health.
            log.info("verifier_refuses_info", address=self.address, reason=error.reason)
            self._silence.heard()
            return True
        else:
            self.suspect = False
            self._silence.heard()
            return True
        finally:
            self._probing = None
            self._watch()

    def _fail(self) -> None:
        self.suspect = True
        self._count(self.breaker.failed())

    def _count(self, opened: bool) -> None:
        if opened:
            self._metrics.breaker_opens.inc()

    def _die(self, error: HolaError) -> None:
        """It does not answer: nobody needs to wait any longer, and its connection is no good."""
        is_news = bool(self.waiters) or not self.suspect
        if is_news:
            log.warning("verifier_silent", address=self.address, why=error.message)
            self._on_trouble()
        # Whoever comes back at this address is not the one that drained.
        self.draining = False
        self.suspect = True
        if self.waiters:
            self._count(self.breaker.failed())
        why = SessionLost(f"verifier {self.address} is silent: {error.message}")
        for waiter in list(self.waiters):
            self._silence.forget(waiter)
            waiter.abandon(why)
        if self._connecting:
            return  # so it is not connected, and whoever waits for that learns why it is not
        reset = asyncio.create_task(self.client.reset())
        self._resets.add(reset)
        reset.add_done_callback(self._resets.discard)

    def _watch(self) -> None:
        """Look again when the silence could have become too long."""
        left_s = self._silence.left_s()
        idle = self._timer is None and self._probing is None and not self._closed
        if left_s is not None and idle:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._look)

    def _look(self) -> None:
        self._timer = None
        for late in self._silence.older_than(self._answer_s):
            self._silence.forget(late)
            why = SessionLost(f"verifier {self.address} lives, but did not answer in time")
            late.abandon(why)
        if self._silence.left_s() == 0 and self._probing is None:
            self._probing = asyncio.create_task(self._probe())
        self._watch()


def _retry_after_s(error: Overloaded) -> float:
    after_ms = error.details.get("retry_after_ms", "")
    return int(after_ms) / 1000 if after_ms.isdecimal() else _FULL_FOR_S
