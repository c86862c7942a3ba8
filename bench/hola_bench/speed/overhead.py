"""The protocol's own cost: a round trip over loopback gRPC minus what the verifier computed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hola.config import Settings
from hola.errors import ProtocolViolation
from hola.ports import VerifierLink
from hola.rpc.verifier_pool import VerifierPool
from hola.types import CancelSession, DraftBlock, Open, SamplingParams, Verdict
from hola_bench.report import rounded
from hola_bench.rig import Rig
from hola_bench.speed.echo import round_trips

BLOCK_LENGTHS = (0, 4, 8)
HEADLINE_LENGTH = 4
WARM_UP_ROUNDS = 20
BYTES_A_ROUND = 140  # of a block or a verdict with its headers, as `wire` counts them
NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Round:
    """Nanoseconds of one round trip: the engine's own, and all else but its queue."""

    compute_ns: int
    rest_ns: int


async def measure(rig: Rig, port: int, echo_port: int, *, rounds: int) -> list[dict[str, Any]]:
    """Per block length: milliseconds beyond the engine and its queue, median and tail.

    Beside them the median of a bare echo whose server waits as long as the engine computed: what
    the machine, asyncio and gRPC cost without HOLA.
    """
    verifier = VerifierPool(f"127.0.0.1:{port}", Settings())
    try:
        found = []
        for length in BLOCK_LENGTHS:
            taken = await _rounds(rig, verifier, length, rounds)
            compute_ns = int(np.median([each.compute_ns for each in taken]))
            echo_ns = await round_trips(
                echo_port, rounds=rounds, wait_ns=compute_ns, payload=bytes(BYTES_A_ROUND)
            )
            rest_ns = [each.rest_ns for each in taken]
            p50, p90, p99 = np.percentile(rest_ns, [50, 90, 99]) / NS_PER_MS
            found.append(
                {
                    "draft_tokens": length,
                    "rounds": rounds,
                    "p50_ms": rounded(p50),
                    "p90_ms": rounded(p90),
                    "p99_ms": rounded(p99),
                    "bare_echo_p50_ms": rounded(float(np.median(echo_ns)) / NS_PER_MS),
                }
            )
        return found
    finally:
        await verifier.close()


async def _rounds(rig: Rig, verifier: VerifierPool, length: int, rounds: int) -> Sequence[Round]:
    """Each round's times; sessions are opened anew when their text has ended."""
    taken: list[Round] = []
    while len(taken) < rounds + WARM_UP_ROUNDS:
        link = await verifier.connect()
        try:
            await link.send(_open(rig, f"overhead-{length}-{len(taken)}"))
            await link.receive()
            await _session(rig, link, length, rounds + WARM_UP_ROUNDS, taken)
            await link.send(CancelSession())
        finally:
            await link.close()
    return taken[WARM_UP_ROUNDS:]


async def _session(
    rig: Rig, link: VerifierLink, length: int, rounds: int, taken: list[Round]
) -> None:
    room = rig.engines.target.info.context_length // 2
    number = position = 0
    finished = False
    while not finished and position < room and len(taken) < rounds:
        number += 1
        block = DraftBlock(round=number, base_position=position, tokens=(number % 16,) * length)
        began_ns = time.perf_counter_ns()
        await link.send(block)
        verdict = await link.receive()
        took_ns = time.perf_counter_ns() - began_ns
        if not isinstance(verdict, Verdict):
            raise ProtocolViolation(f"{type(verdict).__name__} answers a block")
        rest_ns = took_ns - verdict.compute_ns - verdict.queue_ns
        taken.append(Round(compute_ns=verdict.compute_ns, rest_ns=rest_ns))
        position += verdict.accepted + (verdict.token is not None)
        finished = verdict.finished


def _open(rig: Rig, session_id: str) -> Open:
    return Open(
        session_id=session_id,
        model="",
        tokenizer_fingerprint=rig.engines.tokenizer.fingerprint,
        prompt=(1, 2, 3, 4),
        sampling=SamplingParams(temperature=1.0, max_tokens=512),
    )
