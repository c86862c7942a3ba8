"""The protocol's own cost: a round trip over loopback gRPC minus what the verifier computed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from hola.config import Settings
from hola.errors import ProtocolViolation
from hola.ports import VerifierLink
from hola.rpc.verifier_pool import VerifierPool
from hola.types import CancelSession, DraftBlock, Open, SamplingParams, Verdict
from hola_bench.report import rounded
from hola_bench.rig import Rig

BLOCK_LENGTHS = (0, 4, 8)
HEADLINE_LENGTH = 4
WARM_UP_ROUNDS = 20
NS_PER_MS = 1e6


async def measure(rig: Rig, port: int, *, rounds: int) -> list[dict[str, Any]]:
    """Per block length: milliseconds beyond the engine and its queue, median and tail."""
    verifier = VerifierPool(f"127.0.0.1:{port}", Settings())
    try:
        found = []
        for length in BLOCK_LENGTHS:
            rest_ns = await _rounds(rig, verifier, length, rounds)
            p50, p90, p99 = np.percentile(rest_ns, [50, 90, 99]) / NS_PER_MS
            found.append(
                {
                    "draft_tokens": length,
                    "rounds": rounds,
                    "p50_ms": rounded(p50),
                    "p90_ms": rounded(p90),
                    "p99_ms": rounded(p99),
                }
            )
        return found
    finally:
        await verifier.close()


async def _rounds(rig: Rig, verifier: VerifierPool, length: int, rounds: int) -> Sequence[int]:
    """Nanoseconds of each round; sessions are opened anew when their text has ended."""
    rest_ns: list[int] = []
    while len(rest_ns) < rounds + WARM_UP_ROUNDS:
        link = await verifier.connect()
        try:
            await link.send(_open(rig, f"overhead-{length}-{len(rest_ns)}"))
            await link.receive()
            await _session(rig, link, length, rounds + WARM_UP_ROUNDS, rest_ns)
            await link.send(CancelSession())
        finally:
            await link.close()
    return rest_ns[WARM_UP_ROUNDS:]


async def _session(
    rig: Rig, link: VerifierLink, length: int, rounds: int, rest_ns: list[int]
) -> None:
    room = rig.engines.target.info.context_length // 2
    number = position = 0
    finished = False
    while not finished and position < room and len(rest_ns) < rounds:
        number += 1
        block = DraftBlock(round=number, base_position=position, tokens=(number % 16,) * length)
        began_ns = time.perf_counter_ns()
        await link.send(block)
        verdict = await link.receive()
        took_ns = time.perf_counter_ns() - began_ns
        if not isinstance(verdict, Verdict):
            raise ProtocolViolation(f"{type(verdict).__name__} answers a block")
        rest_ns.append(took_ns - verdict.compute_ns - verdict.queue_ns)
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
