"""Router, drafter and verifier on a Redis cluster, as its confined user, give the same streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import hola_drafter.app
import hola_router.app
import hola_verifier.app
from hola.rpc.router_client import RouterClient
from hola.types import FinishReason, Summary, Tokens
from hola_cli.node import Parts, open_node
from tests.support.redis import Server, cluster, user
from tests.support.system import (
    collect,
    request,
    settings_for,
    terminal,
    watched_target,
    without_times,
)
from tests.support.verifier import WatchedEngine

pytestmark = pytest.mark.redis

STREAMS = 8


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """A cluster for this module."""
    with cluster(tmp_path_factory.mktemp("cluster"), *user("hola", "s3cret", "hola")) as made:
        yield made


@pytest.fixture
async def client(nodes: list[Server], tmp_path: Path) -> AsyncIterator[RouterClient]:
    """A client of a router whose bus is the cluster."""
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    settings = settings_for(tmp_path, f"redis+cluster://hola:s3cret@{hosts}", concurrency=STREAMS)
    target = watched_target(WatchedEngine(seed=7, eos_bias=-1000.0))
    async with AsyncExitStack() as stack:
        apps = []
        for service, build in (
            ("verifier", lambda at: hola_verifier.app.build(at, target=target)),
            ("drafter", hola_drafter.app.build),
            ("router", hola_router.app.build),
        ):
            at = settings.model_copy(update={"listen": f"unix://{tmp_path}/{service}.sock"})
            apps.append(build(at))
            stack.push_async_callback(apps[-1].stop)
            await apps[-1].start()
        made = RouterClient(apps[-1].address, settings)
        stack.push_async_callback(made.close)
        yield made


async def undisturbed(folder: Path) -> list[Tokens]:
    """The tokens of the same request in one process, without Redis."""
    target = watched_target(WatchedEngine(seed=7, eos_bias=-1000.0))
    async with open_node(settings_for(folder, "memory:"), parts=Parts(target=target)) as node:
        events = await collect(node.router.generate(request()))
    return [event for event in without_times(events) if isinstance(event, Tokens)]


def text(events: list[Tokens]) -> list[int]:
    """Token ids, however they were batched."""
    return [token.token for event in events for token in event.tokens]


async def test_streams_on_a_cluster_are_the_same(client: RouterClient, tmp_path: Path) -> None:
    expected = text(await undisturbed(tmp_path))
    streams = await asyncio.gather(
        *(collect(client.generate(request(f"same-{number}"))) for number in range(STREAMS))
    )
    for events in streams:
        end = terminal(events)
        assert isinstance(end, Summary), end
        assert end.finish_reason is FinishReason.LENGTH
        assert text([event for event in events if isinstance(event, Tokens)]) == expected


async def test_a_node_that_restarts_changes_no_stream(
    client: RouterClient, nodes: list[Server], tmp_path: Path
) -> None:
    expected = text(await undisturbed(tmp_path))
    streaming = [
        asyncio.create_task(collect(client.generate(request(f"restart-{number}"))))
        for number in range(STREAMS)
    ]
    await asyncio.sleep(0.05)
    await asyncio.to_thread(nodes[1].stop)
    await asyncio.to_thread(nodes[1].start)
    for events in await asyncio.gather(*streaming):
        end = terminal(events)
        assert isinstance(end, Summary), end
        assert text([event for event in events if isinstance(event, Tokens)]) == expected
