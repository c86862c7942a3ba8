"""What gRPC's core does to a process at a bad moment, as HOLA sets it up (decision 0060).

Each in a process of its own: what may fail here is a crash, and the settings are read once.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.support.rpc import running_kinds

STOPS = """
import asyncio, socket, sys, threading
from hola.config import Settings
from hola.rpc.server import RpcServer
from hola.telemetry import Metrics

PLACE = sys.argv[1]
PREFACE = b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def connect(stopped):
    sockets = []
    while not stopped.is_set() and len(sockets) < 200:
        sockets.append(socket.socket(socket.AF_UNIX))
        try:
            sockets[-1].connect(PLACE)
            sockets[-1].send(PREFACE)
        except OSError:
            pass  # it does not listen any longer
    for each in sockets:
        each.close()


async def main():
    for _ in range(150):
        server = RpcServer("unix://" + PLACE, [], Settings(), Metrics())
        await server.start()
        stopped = threading.Event()
        clients = [threading.Thread(target=connect, args=[stopped]) for _ in range(2)]
        for client in clients:
            client.start()
        await server.stop(0)
        stopped.set()
        for client in clients:
            client.join()


asyncio.run(main())
print("fine")
"""

FORKS = """
import asyncio, sys
from hola.config import Settings
from hola.rpc.channel import open_channel
from tests.support.rpc import read_all, start_call

TEXTS = [str(number) for number in range(100)]
STREAMS, FORKS = 8, 40


async def read(channel, forked):
    while not forked.is_set():
        assert await read_all(start_call(channel, "stream_stream", *TEXTS)) == TEXTS


async def fork(forked):
    for _ in range(FORKS):
        # With something to call in the child it is a true fork.
        child = await asyncio.create_subprocess_exec("/bin/true", preexec_fn=lambda: None)
        await child.wait()
        await asyncio.sleep(0.05)
    forked.set()


async def main():
    channel, forked = open_channel("unix://" + sys.argv[1], Settings()), asyncio.Event()
    await asyncio.gather(*(read(channel, forked) for _ in range(STREAMS)), fork(forked))
    await channel.close()


asyncio.run(asyncio.wait_for(main(), 60))
print("fine")
"""


def run(script: str, folder: Path, root: Path) -> None:
    """Run a script with nothing of gRPC's set; its last word is "fine"."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / "s.sock")],
        env=environment | {"PYTHONPATH": f"{root / 'shared'}:{root}"},
        capture_output=True,
        text=True,
    )
    ended = (done.returncode, done.stdout.splitlines()[-1:])
    assert ended == (0, ["fine"]), done.stderr[-3000:]


def test_a_server_that_stops_while_clients_connect_ends_in_order(
    tmp_path: Path, repo_root: Path
) -> None:
    run(STOPS, tmp_path, repo_root)


async def test_no_message_is_lost_when_the_process_forks(tmp_path: Path, repo_root: Path) -> None:
    """It is the client that forks; the server that echoes its messages is this process's."""

    async def slowly(text: str) -> str:
        await asyncio.sleep(0.001)
        return text

    async with running_kinds(slowly, f"unix://{tmp_path}/s.sock"):
        await asyncio.to_thread(run, FORKS, tmp_path, repo_root)
