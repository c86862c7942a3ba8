"""The least that any round trip of the kind costs on this machine: a bare gRPC echo that waits.

`python -m hola_bench.speed.echo` serves it at ECHO_PORT: one stream, no message types, no session;
each message holds the nanoseconds that a thread shall wait, as an engine's would compute. How long
idle cores take to wake up is most of a round trip, and differs much between machines.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio

PORT = "ECHO_PORT"
METHOD = "/hola.bench.Echo/Wait"
_WAIT = struct.Struct("<q")


def waiting(wait_ns: int, payload: bytes) -> bytes:
    """A request: wait so long, and send the payload back."""
    return _WAIT.pack(wait_ns) + payload


def waited_ns(answer: bytes) -> int:
    """How long the thread really took."""
    found: tuple[int, ...] = _WAIT.unpack_from(answer)
    return found[0]


async def round_trips(port: int, *, rounds: int, wait_ns: int, payload: bytes) -> list[int]:
    """Nanoseconds of each round trip beyond the wait."""
    rest_ns: list[int] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.stream_stream(METHOD)(wait_for_ready=True)
        for _ in range(rounds):
            began_ns = time.perf_counter_ns()
            await call.write(waiting(wait_ns, payload))
            answer = await call.read()
            rest_ns.append(time.perf_counter_ns() - began_ns - waited_ns(answer))
        await call.done_writing()
    return rest_ns


class _Echo(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)

    def service(self, handler_call_details: Any) -> Any:
        """The one method; None for others."""
        if handler_call_details.method != METHOD:
            return None
        return grpc.stream_stream_rpc_method_handler(self._answer)

    async def _answer(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        async for request in requests:
            took_ns = await loop.run_in_executor(self._thread, _wait, waited_ns(request))
            yield waiting(took_ns, request[_WAIT.size :])


def _wait(wait_ns: int) -> int:
    began_ns = time.perf_counter_ns()
    time.sleep(wait_ns / 1e9)
    return time.perf_counter_ns() - began_ns


async def _serve(port: int) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Echo(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(int(os.environ[PORT])))
