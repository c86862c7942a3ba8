"""What a client remembers of a stream so that another connection can go on with it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc

from hola.convert import request_to_pb
from hola.errors import DuplicateRequest, HolaError
from hola.rpc.received import Received
from hola.types import Failure, GenerateEvent, GenerateRequest, Summary
from hola.v1 import router_pb2, router_pb2_grpc

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 2.0


@dataclass(slots=True, kw_only=True)
class Attachment:
    """One request's progress at the client: what has been received, and how to ask for the rest.

    With `request` the first calls are Generate, until an event shows that the router has accepted
    it; from then on, and without `request`, they are Resume from the tokens on that are not final.
    """

    request_id: str
    request: GenerateRequest | None = None
    received: Received = field(default_factory=Received)
    ended: bool = False
    sent: bool = False

    @property
    def position(self) -> int:
        """Output tokens received that hold so far."""
        return self.received.position

    def call(self, stub: router_pb2_grpc.RouterServiceStub) -> Callable[..., Any]:
        """The call to make on a new connection; takes the call's keyword arguments."""
        self.received.connect()
        if self.request is not None:
            return partial(stub.Generate, request_to_pb(self.request))
        message = router_pb2.RouterServiceResumeRequest(
            request_id=self.request_id, position=self.received.settled
        )
        return partial(stub.Resume, message)

    def fresh(self, event: GenerateEvent) -> list[GenerateEvent]:
        """What of an event is new. Raises ProtocolViolation on a gap between tokens."""
        self.request = None
        self.ended = isinstance(event, Summary | Failure)
        return self.received.add(event)

    def may_retry(self, error: HolaError) -> bool:
        """Whether another connection may help. Changes which call it makes.

        A Generate that broke before its first event is sent again under the same id; that the id is
        taken then means that the router has accepted it the first time.
        """
        if isinstance(error, DuplicateRequest) and self.sent and self.request is not None:
            self.request = None
            return True
        self.sent = True
        return error.grpc_code == grpc.StatusCode.UNAVAILABLE.value[0]


class Patience:
    """Waits longer and longer between tries, up to `limit_s` seconds without any progress."""

    def __init__(
        self,
        limit_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._jitter = jitter
        self.reset()

    def reset(self) -> None:
        """There was progress: start over."""
        self._tries = 0
        self._since: float | None = None

    def next_wait_s(self, error: HolaError) -> float:
        """Seconds until the next try. Raises `error` once the limit has passed."""
        now = self._clock()
        self._since = now if self._since is None else self._since
        if now - self._since >= self._limit_s:
            raise error
        longest: float = min(_FIRST_WAIT_S * 2**self._tries, _LONGEST_WAIT_S)
        self._tries += 1
        return longest * (0.5 + self._jitter() / 2)

    async def wait(self, error: HolaError) -> None:
        """Sleep until the next try. Raises `error` once the limit has passed."""
        await asyncio.sleep(self.next_wait_s(error))
