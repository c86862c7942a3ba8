"""Bytes on the wire, counted by a TCP relay between drafter and verifier."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from hola.config import Settings
from hola.rpc.verifier_pool import VerifierPool
from hola_bench.cases import Case
from hola_bench.plan import Plan
from hola_bench.report import rounded
from hola_bench.rig import Rig

CHUNK_BYTES = 65536


@dataclass(slots=True)
class Counted:
    """Payload bytes of the TCP connections through a relay (HTTP/2 included)."""

    port: int = 0
    up_bytes: int = 0
    down_bytes: int = 0

    @property
    def address(self) -> str:
        """Where to connect instead of the server."""
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[Counted]:
    """A relay on a free loopback port to `port`, for the time of the block."""
    counted = Counted()
    pumps: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)

        def up(count: int) -> None:
            counted.up_bytes += count

        def down(count: int) -> None:
            counted.down_bytes += count

        for pump in (_pump(reader, server_writer, up), _pump(server_reader, writer, down)):
            task = asyncio.create_task(pump)
            pumps.add(task)
            task.add_done_callback(pumps.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    counted.port = server.sockets[0].getsockname()[1]
    try:
        yield counted
    finally:
        server.close()
        for task in list(pumps):
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Any) -> None:
    try:
        while data := await reader.read(CHUNK_BYTES):
            count(len(data))
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


async def measure(rig: Rig, port: int, plan: Plan, cases: Sequence[Case]) -> dict[str, Any]:
    """Bytes per committed token of these requests on one connection, its set-up included."""
    tokens = rounds = 0
    async with relay(port) as counted:
        verifier = VerifierPool(counted.address, Settings())
        try:
            for case in cases:
                decoded = await rig.decode(plan, case, verifier=verifier)
                tokens += len(decoded.ids)
                rounds += decoded.summary.rounds
        finally:
            await verifier.close()
    total = counted.up_bytes + counted.down_bytes
    return {
        "ladder": plan.name,
        "requests": len(cases),
        "prompt_tokens": sum(len(case.prompt.ids) for case in cases),
        "tokens": tokens,
        "rounds": rounds,
        "up_bytes": counted.up_bytes,
        "down_bytes": counted.down_bytes,
        "bytes_per_token": rounded(total / tokens),
        "bytes_per_round": rounded(total / rounds),
    }
