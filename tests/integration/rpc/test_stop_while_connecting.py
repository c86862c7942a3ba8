"""A server that stops while clients connect ends its calls, not its process."""

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
    for _ in range(int(sys.argv[2])):
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


def test_no_handshake_ends_the_process(tmp_path: Path, repo_root: Path) -> None:
    """A process of its own, as what may fail here is a crash in gRPC's core (decision 0060)."""
    environment = {name: text for name, text in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    environment |= {"PYTHONPATH": str(repo_root / "shared"), "HOLA_LOG_LEVEL": "error"}
    done = subprocess.run(
        [sys.executable, "-c", STOPS, str(tmp_path / "s.sock"), "150"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["fine"]), done.stderr[-2000:]
