"""A running system in this process: memory and direct calls, or Redis and gRPC over sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis

import hola_drafter.app
import hola_router.app
import hola_verifier.app
from hola.bus.from_settings import bus_from
from hola.bus.ports import Bus
from hola.config import Settings
from hola.rpc.drafter_client import GrpcDrafter
from hola.rpc.router_client import RouterClient
from hola.types import (
    Failure,
    GenerateEvent,
    GenerateRequest,
    SamplingParams,
    SpeculationParams,
    Summary,
    Timings,
)
from hola_cli.node import Parts, open_node
from hola_drafter.drafter import Drafter
from hola_router.generate import Router
from hola_verifier.target import Target
from tests.support.verifier import WatchedEngine, target_of

WIRINGS = ("memory", "redis")
MODEL = "scripted:seed=7,eos_bias=-1000"
PROMPT = "Tom has 12 apples. He buys 5 more."


def request(request_id: str = "r1", **changes: Any) -> GenerateRequest:
    """40 sampled tokens in blocks of a fixed length, so that every event can be compared."""
    wanted = GenerateRequest(
        request_id=request_id,
        prompt=PROMPT,
        sampling=SamplingParams(max_tokens=40, temperature=0.7, seed=11),
        speculation=SpeculationParams(max_draft_tokens=4),
    )
    return replace(wanted, **changes)


def without_times(events: list[GenerateEvent]) -> list[GenerateEvent]:
    """The events with everything that a clock decides set to zero."""
    return [
        replace(event, timings=Timings()) if isinstance(event, Summary) else event
        for event in events
    ]


def terminal(events: list[GenerateEvent]) -> Summary | Failure:
    """The terminal event; fails unless there is exactly one, at the end."""
    found = [event for event in events if isinstance(event, Summary | Failure)]
    assert len(found) == 1, f"{len(found)} terminal events in {events}"
    assert found[0] is events[-1]
    return found[0]


async def collect(events: AsyncIterator[GenerateEvent]) -> list[GenerateEvent]:
    """All of a stream."""
    return [event async for event in events]


@dataclass(kw_only=True)
class System:
    """Ways into a running system, and a look at the engine behind it."""

    client: Router | RouterClient
    drafter: Drafter | GrpcDrafter
    bus: Bus
    engine: WatchedEngine
    settings: Settings

    @property
    def sessions_left(self) -> int:
        """KV caches of the target that are still allocated."""
        return self.engine.opened_sessions - self.engine.closed_sessions


def settings_for(folder: Path, bus_url: str, **changes: Any) -> Settings:
    """Short waits; sockets in `folder`."""
    values: dict[str, Any] = {
        "model": MODEL,
        "models_dir": str(folder),
        "bus": bus_url,
        "verifier": f"unix://{folder}/verifier.sock",
        "job_idle_s": 30.0,
        "detach_grace_s": 1.0,
        "drain_s": 0.2,
        "verifier_wait_s": 10.0,
        "answer_timeout_s": 20.0,
        "reattach_s": 10.0,
        "memory_budget_mb": 64,
        **changes,
    }
    return Settings(**values)


def watched_target(engine: WatchedEngine) -> Target:
    """The target of MODEL on an engine that tests can hold."""
    return replace(target_of(engine), model=MODEL)


@asynccontextmanager
async def running_system(
    wiring: str, folder: Path, redis_url: str, **changes: Any
) -> AsyncIterator[System]:
    """Start router, drafter and verifier, give ways into them, and stop them.

    "memory" is a node without any socket. "redis" is three services with sockets of their own on
    an empty Redis database, called over gRPC.
    """
    engine = WatchedEngine(seed=7, eos_bias=-1000.0)
    target = watched_target(engine)
    settings = settings_for(folder, redis_url, **changes)
    async with AsyncExitStack() as stack:
        stack.callback(engine.release)
        if wiring == "memory":
            node = await stack.enter_async_context(open_node(settings, parts=Parts(target=target)))
            yield System(
                client=node.router,
                drafter=node.drafter,
                bus=node.bus,
                engine=engine,
                settings=settings,
            )
        else:
            yield await _start_services(stack, folder, settings, target, engine)


async def _start_services(
    stack: AsyncExitStack, folder: Path, settings: Settings, target: Target, engine: WatchedEngine
) -> System:
    with redis.Redis.from_url(settings.bus) as database:
        database.flushdb()

    def at(service: str) -> Settings:
        return settings.model_copy(update={"listen": f"unix://{folder}/{service}.sock"})

    verifier = hola_verifier.app.build(at("verifier"), target=target)
    drafter = hola_drafter.app.build(at("drafter"))
    router = hola_router.app.build(at("router"))
    for app in (verifier, drafter, router):
        stack.push_async_callback(app.stop)
        await app.start()
    bus = await bus_from(settings)
    stack.push_async_callback(bus.close)
    direct = GrpcDrafter(drafter.address, settings)
    stack.push_async_callback(direct.close)
    client = RouterClient(router.address, settings)
    stack.push_async_callback(client.close)
    return System(client=client, drafter=direct, bus=bus, engine=engine, settings=settings)
