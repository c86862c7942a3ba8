"""What gRPC's core does to a process at a bad moment, as HOLA sets it up (decision 0060).

Each in a process of its own: what may fail here is a crash, and the settings are read once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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

COUNTS = """
import asyncio, sys
import grpc, grpc.aio
from hola.config import Settings
from hola.rpc.server import RpcServer, RpcService
from hola.telemetry import Metrics
from hola.v1 import compressor_pb2

Message = compressor_pb2.SubmitJobResponse


async def count(request, context):
    for number in range(int(request.job_id)):
        yield Message(job_id=str(number))
        await asyncio.sleep(0.001)


def add(servicer, server):
    kind = grpc.unary_stream_rpc_method_handler(
        count, Message.FromString, Message.SerializeToString
    )
    handler = grpc.method_handlers_generic_handler("hola.test.Counts", {"Count": kind})
    server.add_generic_rpc_handlers((handler,))


async def main():
    services = [RpcService(compressor_pb2.DESCRIPTOR, add, None)]
    server = RpcServer("unix://" + sys.argv[1], services, Settings(), Metrics())
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


asyncio.run(main())
"""

FORKS = f"""
import asyncio, subprocess, sys
from hola.config import Settings
from hola.rpc.channel import open_channel
from hola.v1 import compressor_pb2

Message = compressor_pb2.SubmitJobResponse
MESSAGES, STREAMS, FORKS = 100, 8, 40


async def read(channel, forked):
    call = channel.unary_stream(
        "/hola.test.Counts/Count", Message.SerializeToString, Message.FromString
    )
    while not forked.is_set():
        answers = call(Message(job_id=str(MESSAGES)), wait_for_ready=True)
        assert [int(answer.job_id) async for answer in answers] == list(range(MESSAGES))


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


command = [sys.executable, "-c", {COUNTS!r}, sys.argv[1]]
with subprocess.Popen(command, stdin=subprocess.PIPE):
    asyncio.run(asyncio.wait_for(main(), 60))
print("fine")
"""


def run(script: str, folder: Path, root: Path) -> None:
    """Run a script with nothing of gRPC's set; its last word is "fine"."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / "s.sock")],
        env=environment | {"PYTHONPATH": str(root / "shared")},
        capture_output=True,
        text=True,
    )
    ended = (done.returncode, done.stdout.splitlines()[-1:])
    assert ended == (0, ["fine"]), done.stderr[-3000:]


def test_a_server_that_stops_while_clients_connect_ends_in_order(
    tmp_path: Path, repo_root: Path
) -> None:
    run(STOPS, tmp_path, repo_root)


def test_no_message_is_lost_when_the_process_forks(tmp_path: Path, repo_root: Path) -> None:
    run(FORKS, tmp_path, repo_root)
