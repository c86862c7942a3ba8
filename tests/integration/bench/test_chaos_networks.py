"""What a chaos run does to links: relays hold bytes back, namespaces lose real packets."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from hola.errors import HolaError
from hola_bench.chaos import inside, scripted_models
from hola_bench.chaos.fleet import Fleet
from hola_bench.chaos.relays import Relays
from hola_bench.chaos.schedule import REDIS, Kind, Shape
from hola_bench.chaos.sockets import Sockets

SOON_S = 0.3


@asynccontextmanager
async def echo_behind(network, name):
    """A server behind a place's relay that sends back what it gets."""

    async def serve(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_unix_server(serve, network.listen(name).removeprefix("unix://"))
    try:
        yield
    finally:
        server.close()


async def ask(reader, writer, text):
    writer.write(text)
    return await reader.readexactly(len(text))


async def test_a_relay_holds_everything_back_and_gives_it_later(tmp_path):
    network = Relays(tmp_path, seed=1)
    await network.place("verifier-0")
    try:
        async with echo_behind(network, "verifier-0"):
            front = network.reach("verifier-0").removeprefix("unix://")
            reader, writer = await asyncio.open_unix_connection(front)
            assert await ask(reader, writer, b"one") == b"one"
            await network.spoil("verifier-0", Kind.CUT, 0.0)
            answer = asyncio.create_task(ask(reader, writer, b"two"))
            done, _ = await asyncio.wait({answer}, timeout=SOON_S)
            assert not done, "it came through a partition"
            await network.heal("verifier-0")
            assert await answer == b"two"
            await network.spoil("verifier-0", Kind.DELAY, 0.01)
            await network.spoil("verifier-0", Kind.LOSE, 1.0)
            assert await ask(reader, writer, b"three") == b"three"
            writer.close()
    finally:
        await network.close()


async def test_each_process_has_a_way_to_redis_of_its_own(tmp_path):
    network = Relays(tmp_path, seed=1)
    for name in (REDIS, "drafter-0", "drafter-1"):
        await network.place(name)
    try:
        async with echo_behind(network, REDIS):
            ways = {}
            for peer in ("drafter-0", "drafter-1"):
                path = network.reach(REDIS, peer).removeprefix("unix://")
                ways[peer] = await asyncio.open_unix_connection(path)
                assert await ask(*ways[peer], b"hi") == b"hi"
            await network.spoil("drafter-0", Kind.CUT, 0.0)
            cut = asyncio.create_task(ask(*ways["drafter-0"], b"lost"))
            assert await ask(*ways["drafter-1"], b"here") == b"here"
            assert not cut.done()
            await network.heal("drafter-0")
            assert await cut == b"lost"
            await network.spoil(REDIS, Kind.CUT, 0.0)
            both = [asyncio.create_task(ask(*way, b"late")) for way in ways.values()]
            done, _ = await asyncio.wait(both, timeout=SOON_S)
            assert not done, "Redis is cut off from everybody"
            await network.heal(REDIS)
            assert await asyncio.gather(*both) == [b"late", b"late"]
            for _, writer in ways.values():
                writer.close()
    finally:
        await network.close()


IN_A_NAMESPACE = """
import asyncio, socket, sys
from hola_bench.chaos.namespaces import Namespaces
from hola_bench.chaos.schedule import Kind

ECHO = '''
import socket
near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
near.bind(("0.0.0.0", 9))
print("up", flush=True)
while True:
    data, peer = near.recvfrom(9)
    near.sendto(data, peer)
'''

def answers(host, count):
    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.settimeout(0.05)
    came = 0
    for _ in range(count):
        try:
            far.sendto(b"x", (host, 9))
            came += far.recv(9) == b"x"
        except OSError:
            continue
    return came

async def main():
    network = await Namespaces.open()
    try:
        await network.place("a")
        command = network.inside("a", [sys.executable, "-c", ECHO])
        echo = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        await echo.stdout.readline()
        host = network.reach("a").partition(":")[0]
        counts = [answers(host, 40)]
        for kind, amount in ((Kind.CUT, 0.0), (Kind.LOSE, 0.3)):
            await network.spoil("a", kind, amount)
            counts.append(answers(host, 40))
            await network.heal("a")
            counts.append(answers(host, 40))
        echo.kill()
        await echo.wait()
        print(*counts)
    finally:
        await network.close()

asyncio.run(main())
"""


def test_a_namespace_is_cut_off_and_loses_packets():
    why = inside.refusal()
    if why:
        pytest.skip(f"no network namespaces: {why}")
    path = os.pathsep.join(folder for folder in sys.path if folder)
    done = subprocess.run(
        [*inside.command(), sys.executable, "-c", IN_A_NAMESPACE],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    whole, cut, healed, lossy, again = map(int, done.stdout.split())
    # A busy machine may be late with an answer now and then.
    assert min(whole, healed, again) >= 35, done.stdout
    assert cut == 0
    assert 2 <= lossy <= 35, done.stdout


@pytest.mark.redis
async def test_a_process_that_does_not_come_up_is_named_with_its_log(tmp_path):
    shape = Shape(verifiers=1, drafters=0, routers=0)
    settings = {"verifier": {"verifer": "typo"}}
    fleet = Fleet(shape, scripted_models(), Sockets(tmp_path), tmp_path, settings)
    try:
        with pytest.raises(HolaError, match="verifier-0 ended with 2") as refused:
            await fleet.up()
    finally:
        await fleet.down()
    assert "HOLA_VERIFER" in refused.value.message


async def test_relays_close_connections_that_have_just_begun(tmp_path):
    """One that is cancelled before its first step is closed as well: a writer left open warns."""
    relays = Relays(tmp_path, seed=1)
    behind = await asyncio.start_unix_server(
        lambda _, writer: writer.close(), tmp_path / "a.own.sock"
    )
    await relays.place(REDIS)
    await relays.place("a")
    clients = []
    for steps in range(6):
        clients.append(await asyncio.open_unix_connection(tmp_path / "a.sock"))
        for _ in range(steps):
            await asyncio.sleep(0)
    await relays.close()
    for reader, writer in clients:
        assert await reader.read() == b""
        writer.close()
    behind.close()
    gc.collect()
