"""A client that reads one stream from several routers and comes back after every loss."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from hola.config import Settings
from hola.convert import event_from_pb, request_to_pb
from hola.errors import DuplicateRequest, HolaError, Overloaded, UnknownRequest
from hola.rpc.channel import open_channel
from hola.rpc.errors import error_from_call
from hola.rpc.received import Received
from hola.types import (
    Correction,
    Failure,
    GenerateEvent,
    GenerateRequest,
    Outage,
    SpeculationParams,
    Started,
    Summary,
    Tokens,
)
from hola.v1 import router_pb2, router_pb2_grpc
from hola_bench.cases import Case
from hola_bench.chaos.behaviour import Move, Plan, Trick
from hola_bench.chaos.transcript import DETACHED, OVER, Connection, Transcript

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.value[0]
PAUSE_S = (0.05, 0.3)
CANCEL_S = 2.0
# A connection that has been silent for so long is tried elsewhere: the router may be frozen.
SILENCE_S = 15.0


class Routers:
    """A channel to each router replica, as one client program would keep them."""

    def __init__(self, addresses: Mapping[str, str], settings: Settings) -> None:
        self.names: Sequence[str] = tuple(addresses)
        self._channels = {
            name: open_channel(address, settings) for name, address in addresses.items()
        }

    def stub(self, name: str) -> router_pb2_grpc.RouterServiceStub:
        """The calls of one router."""
        return router_pb2_grpc.RouterServiceStub(self._channels[name])

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            await channel.close()


@dataclass(slots=True, kw_only=True)
class _Progress:
    """Where a stream is: what has been received, and whether a router has it."""

    known_as: str
    position: int = 0
    accepted: bool = False
    ended: bool = False
    due: list[Move] = field(default_factory=list)


class Client:
    """Plays one plan. `clock` gives seconds since the start of the run."""

    def __init__(
        self,
        plan: Plan,
        case: Case,
        text: str,
        routers: Routers,
        *,
        run_id: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._routers = routers
        self._clock = clock
        self._rng = random.Random(plan.number)
        name = f"{run_id}-{plan.number}"
        self._request = GenerateRequest(
            prompt=text,
            request_id="" if plan.keyed else name,
            idempotency_key=f"key-{name}" if plan.keyed else "",
            sampling=case.params,
            speculation=SpeculationParams(
                ladder=plan.ladder,
                max_draft_tokens=plan.draft_tokens,
                outage=Outage.LOCAL if plan.local else Outage.WAIT,
            ),
        )
        self._at = _Progress(known_as=self._request.request_id, due=list(plan.moves))
        self._transcript = Transcript(plan=plan, request_id=name, began_s=clock())
        self._turn = plan.router
        # What HOLA's own client remembers of a stream that may be corrected.
        self._sorted = Received() if plan.local else None

    async def play(self, limit_s: float) -> Transcript:
        """The stream from its request to its end, or until `limit_s` seconds have passed."""
        try:
            async with asyncio.timeout(limit_s):
                while not self._at.ended:
                    await self._connection()
        except TimeoutError:
            self._transcript.trouble = f"no end within {limit_s:g} s"
        except HolaError as error:
            self._transcript.trouble = f"{error.reason}: {error.message}"
        self._transcript.ended_s = self._clock()
        return self._transcript

    async def _connection(self) -> None:
        """One call, read until it breaks, ends or is left. Raises what no other call can mend."""
        router = self._routers.names[self._turn % len(self._routers.names)]
        call, connection = self._call(router)
        self._transcript.connections.append(connection)
        pause_s = 0.0
        try:
            pause_s = await self._read(call, connection)
        except grpc.aio.AioRpcError as broken:
            error = error_from_call(broken)
            connection.why = f"{error.reason}: {error.message[:100]}"
            pause_s = self._mend(error)
        except TimeoutError:
            connection.why = "silent"
        finally:
            call.cancel()
        self._turn += 1
        if not self._at.ended:
            await asyncio.sleep(pause_s)

    def _call(self, router: str) -> tuple[Any, Connection]:
        stub = self._routers.stub(router)
        if self._sorted is not None:
            self._sorted.connect()
        asks = not self._at.accepted or (self._plan.asks_again and self._plan.keyed)
        position = 0 if asks else self._at.position
        connection = Connection(
            began_s=self._clock(),
            router=router,
            call="Generate" if asks else "Resume",
            position=position,
        )
        if asks:
            return stub.Generate(request_to_pb(self._request)), connection
        if self._sorted is not None:
            position = self._sorted.settled
        message = router_pb2.RouterServiceResumeRequest(
            request_id=self._at.known_as, position=position
        )
        return stub.Resume(message), connection

    async def _read(self, call: Any, connection: Connection) -> float:
        """Note events; seconds to stay away when a move cut the connection."""
        while True:
            async with asyncio.timeout(SILENCE_S):
                answer = await call.read()
            if answer is grpc.aio.EOF:
                connection.why = OVER if self._at.ended else "the end is missing"
                return self._rng.uniform(*PAUSE_S)
            for event in self._new(event_from_pb(answer.event)):
                connection.events.append((self._clock(), event))
                self._note(event)
            while self._at.due and self._at.position >= self._at.due[0].after_tokens:
                move = self._at.due.pop(0)
                if move.trick is Trick.DETACH and not self._at.ended:
                    connection.why = DETACHED
                    return move.pause_s
                await self._cancel()

    def _new(self, event: GenerateEvent | None) -> list[GenerateEvent]:
        """What is to be judged; nothing of an event of a later version."""
        if event is None:
            return []
        return [event] if self._sorted is None else self._sorted.add(event)

    def _note(self, event: object) -> None:
        self._at.accepted = True
        match event:
            case Started(request_id=request_id):
                self._at.known_as = request_id
                self._transcript.request_id = request_id
            case Tokens(position=position, tokens=tokens):
                self._at.position = max(self._at.position, position + len(tokens))
            case Correction(position=position):
                self._at.position = position
            case Summary() | Failure():
                self._at.ended = True

    async def _cancel(self) -> None:
        """Ask any router to end the request; one that is gone is not the one."""
        message = router_pb2.RouterServiceCancelRequest(request_id=self._at.known_as)
        for name in (*self._routers.names, *self._routers.names):
            try:
                await self._routers.stub(name).Cancel(message, timeout=CANCEL_S)
            except grpc.aio.AioRpcError:
                continue
            return

    def _mend(self, error: HolaError) -> float:
        """Seconds to wait before the next call. Raises an error that a next call would meet too."""
        if isinstance(error, DuplicateRequest) and not self._at.accepted:
            self._at.accepted = True  # the call that broke had been accepted
            return 0.0
        if isinstance(error, UnknownRequest) and self._at.position == 0:
            self._at.accepted = False
            return self._rng.uniform(*PAUSE_S)
        if isinstance(error, Overloaded):
            return float(error.details.get("retry_after_ms", 500)) / 1000
        if error.grpc_code == UNAVAILABLE:
            return self._rng.uniform(*PAUSE_S)
        raise error
