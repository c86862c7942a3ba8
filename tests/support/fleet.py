"""Several equal verifiers behind one pool, cables that can be cut, and bad verifiers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from hola.config import Settings
from hola.convert import verifier_info_to_pb
from hola.errors import Overloaded, SessionLost, VerifierUnavailable
from hola.ports import VerifierPort
from hola.rpc.verifier_pool import VerifierPool
from hola.telemetry import Metrics
from hola.types import CancelSession, DraftBlock, Opened, SamplingParams, Verdict, VerifierInfo
from hola.v1 import verifier_pb2
from tests.support.verifier import (
    Rig,
    WatchedEngine,
    ask,
    reference,
    running_verifier,
)

SAMPLING = SamplingParams(temperature=0.8, seed=5, max_tokens=64)
# What a drafter tries again after.
PASSING = (SessionLost, VerifierUnavailable, Overloaded)
SERVICE = "hola.v1.VerifierService"


def fleet_settings(**changes: Any) -> Settings:
    """Short waits; `detect_s` is long enough for a loaded machine."""
    return Settings(**{"drain_s": 5.0, "memory_budget_mb": 16, "connect_timeout_s": 5.0, **changes})


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """A series' value now; 0 when it does not exist yet."""
    return metrics.registry.get_sample_value(name, labels) or 0.0


class Cable:
    """A loopback TCP proxy to a verifier; frozen, it keeps its connections and passes nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.address = ""

    def freeze(self) -> None:
        self._open.clear()

    def thaw(self) -> None:
        self._open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        writers = [writer]
        ways: list[asyncio.Task[None]] = []
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
            writers.append(upstream_writer)
            ways.append(asyncio.create_task(self._pass(reader, upstream_writer)))
            ways.append(asyncio.create_task(self._pass(upstream_reader, writer)))
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the verifier is gone, and so is this connection
        finally:
            for way in ways:
                way.cancel()
            for each in writers:
                each.close()
            await asyncio.gather(*ways, return_exceptions=True)
            await asyncio.gather(*(each.wait_closed() for each in writers), return_exceptions=True)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self._open.wait()
            sink.write(data)
            await sink.drain()


@asynccontextmanager
async def running_cable(address: str) -> AsyncIterator[Cable]:
    """A cable to "grpc://host:port"."""
    host, _, port = address.removeprefix("grpc://").rpartition(":")
    cable = Cable(host, int(port))
    server = await asyncio.start_server(cable.serve, "127.0.0.1", 0)
    cable.address = f"grpc://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield cable
    finally:
        server.close()
        await cable.close()
        await server.wait_closed()


@dataclass(kw_only=True)
class Fleet:
    """Running verifiers and a pool on all of them."""

    rigs: list[Rig]
    cables: list[Cable]
    pool: VerifierPool
    metrics: Metrics
    addresses: list[str]

    def rig_at(self, address: str) -> Rig:
        return self.rigs[self.addresses.index(address)]

    def cable_at(self, address: str) -> Cable:
        return self.cables[self.addresses.index(address)]


@asynccontextmanager
async def running_fleet(
    folder: Path,
    count: int = 2,
    *,
    cables: bool = False,
    engines: Callable[[int], WatchedEngine] = lambda number: WatchedEngine(),
    more: Sequence[str] = (),
    **settings: Any,
) -> AsyncIterator[Fleet]:
    """Start `count` verifiers and a pool that knows them, and the addresses in `more`."""
    chosen = fleet_settings(**settings)
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        rigs, strung = [], []
        for number in range(count):
            place = folder / str(number)
            place.mkdir()
            rig = running_verifier(
                "loopback" if cables else "unix",
                place,
                engine=engines(number),
                **{name: getattr(chosen, name) for name in chosen.model_fields_set},
            )
            rigs.append(await stack.enter_async_context(rig))
            if cables:
                cable = running_cable(rigs[-1].app.address)
                strung.append(await stack.enter_async_context(cable))
        addresses = [c.address for c in strung] if cables else [r.app.address for r in rigs]
        pool = VerifierPool(",".join([*addresses, *more]), chosen, metrics=metrics)
        stack.push_async_callback(pool.close)
        yield Fleet(rigs=rigs, cables=strung, pool=pool, metrics=metrics, addresses=addresses)


@dataclass
class Walk:
    """One session played as a drafter does: drafts of any quality, and again after trouble."""

    rig: Rig
    session_id: str = "s1"
    tokens: list[int] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    exactness: set[str] = field(default_factory=set)
    tenant: str = "default"

    async def run(
        self,
        port: VerifierPort,
        count: int,
        *,
        between: Callable[[int], Any] | None = None,
        tries: int = 200,
    ) -> list[int]:
        """`count` tokens; `between(tokens so far)` is called before every block."""
        dice = random.Random(self.session_id)
        for _ in range(tries):
            try:
                await self._until(port, count, dice, between)
            except PASSING as error:
                self.errors.append(error)
                await asyncio.sleep(0.01)
            else:
                return self.tokens[:count]
        raise AssertionError(f"no end after {tries} tries: {self.errors[-5:]}")

    async def _until(
        self,
        port: VerifierPort,
        count: int,
        dice: random.Random,
        between: Callable[[int], Any] | None,
    ) -> None:
        link: Any = await port.connect(self.session_id, fingerprint=self._fingerprint)
        try:
            opened: Opened = await ask(link, self._open())
            self.exactness.add(opened.exactness.name)
            self.addresses.append(link.address)
            round_ = 0
            while len(self.tokens) < count:
                if between is not None:
                    await between(len(self.tokens))
                round_ += 1
                await self._block(link, round_, count, dice)
            await link.send(CancelSession())
        finally:
            await link.close()

    async def _block(self, link: Any, round_: int, count: int, dice: random.Random) -> None:
        truth = reference(self.rig.engine, count + 8, SAMPLING)
        base = len(self.tokens)
        right = truth[base : base + dice.randrange(4)]
        drafts = tuple(t if dice.random() < 0.7 else dice.randrange(256) for t in right)
        block = DraftBlock(round=round_, base_position=base, tokens=drafts)
        verdict: Verdict = await ask(link, block)
        assert verdict.token is not None
        self.tokens += [*drafts[: verdict.accepted], verdict.token]

    def _open(self) -> Any:
        return replace(
            self.rig.open_request(),
            session_id=self.session_id,
            committed=tuple(self.tokens),
            sampling=SAMPLING,
            required_fingerprint=self._fingerprint,
            tenant=self.tenant,
        )

    @property
    def _fingerprint(self) -> str:
        return self.rig.target.digest if self.tokens else ""


# A verifier's answers to one message, as raw bytes; a raised error ends the call.
Behaviour = Callable[[verifier_pb2.VerifyRequest], AsyncIterator[bytes]]


@asynccontextmanager
async def running_bad_verifier(
    info: VerifierInfo, behaviour: Behaviour, listen: str
) -> AsyncIterator[str]:
    """A server that answers Info properly and Verify with `behaviour`; gives its address."""

    async def verify(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            async for answer in behaviour(request):
                yield answer

    async def say(request: Any, context: Any) -> Any:
        return verifier_info_to_pb(info)

    handlers = {
        "Verify": grpc.stream_stream_rpc_method_handler(
            verify,
            request_deserializer=verifier_pb2.VerifyRequest.FromString,
            response_serializer=bytes,
        ),
        "Info": grpc.unary_unary_rpc_method_handler(
            say,
            request_deserializer=verifier_pb2.VerifierServiceInfoRequest.FromString,
            response_serializer=verifier_pb2.VerifierServiceInfoResponse.SerializeToString,
        ),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(listen)
    await server.start()
    try:
        yield listen
    finally:
        await server.stop(0)
