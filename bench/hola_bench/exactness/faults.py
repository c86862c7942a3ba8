"""Decoding through crashes: a verifier that restarts, a drafter that dies, in mid-stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from hola.bus.connect import open_bus
from hola.bus.ports import Bus
from hola.bus.streams import BusLimits
from hola.config import Settings
from hola.errors import ConfigError
from hola.ports import VerifierPort
from hola.rpc.verifier_client import GrpcVerifier
from hola.telemetry import Metrics
from hola.types import GenerateJob
from hola_bench.cases import Case
from hola_bench.exactness.held import HeldVerifier
from hola_bench.exactness.plans import TOGETHER, draw
from hola_bench.plan import Plan
from hola_bench.rig import PATIENCE, Decoded, Rig, Transcript
from hola_drafter.drafter import Drafter, DraftModel
from hola_drafter.worker import JobWorker
from hola_verifier.app import VerifierApp, build

JOB_IDLE_S = 0.25
MOST_VERDICTS_BEFORE = 3
BIND_TRIES = 20
BIND_PAUSE_S = 0.1


def batches(cases: Sequence[Case]) -> list[Sequence[Case]]:
    """As many cases as run together."""
    return [cases[start : start + TOGETHER] for start in range(0, len(cases), TOGETHER)]


async def restarted(rig: Rig, plan: Plan, cases: Sequence[Case]) -> AsyncIterator[Decoded]:
    """Each case over real gRPC, with the verifier's server stopped and another one started.

    All sessions of a batch are held in mid-stream while that happens.
    """
    server = _server(rig, "127.0.0.1:0")
    await server.start()
    try:
        for batch in batches(cases):
            jobs = {job.request_id: (job, case) for case in batch if (job := rig.job(plan, case))}
            settings = _settings(server.address)
            held = _hold(GrpcVerifier(server.address, settings), jobs)
            try:
                tasks = [
                    asyncio.create_task(_noted(rig, plan, job, case, held))
                    for job, case in jobs.values()
                ]
                await held.wait_stopped(set(jobs))
                address = server.address
                await server.stop()
                server = await _start_again(rig, address.removeprefix("grpc://"))
                held.release()
                for decoded in await asyncio.gather(*tasks):
                    yield decoded
            finally:
                await held.close()
    finally:
        await server.stop()


async def taken_over(rig: Rig, plan: Plan, cases: Sequence[Case]) -> AsyncIterator[Decoded]:
    """Each case through the bus, with its drafter ended and another one going on from the journal.

    All jobs of a batch are held in mid-stream when their drafter is cut off; the second one has
    another ladder's pacing and finds the jobs when they have gone without a heartbeat.
    """
    bus = await open_bus("memory:", limits=BusLimits(job_idle_s=JOB_IDLE_S, block_s=0.05))
    try:
        for batch in batches(cases):
            jobs = {job.request_id: (job, case) for case in batch if (job := rig.job(plan, case))}
            async for decoded in _one_takeover(rig, bus, jobs):
                yield decoded
    finally:
        await bus.close()


async def _one_takeover(
    rig: Rig, bus: Bus, jobs: dict[str, tuple[GenerateJob, Case]]
) -> AsyncIterator[Decoded]:
    held = _hold(rig.verifier, jobs)
    for job, _ in jobs.values():
        await bus.jobs.publish(job)
    first = asyncio.create_task(_worker(rig, bus, "first", held).run())
    ended = [asyncio.create_task(_note_end(bus, name, held)) for name in jobs]
    await held.wait_stopped(set(jobs))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    survivors = {name for name in jobs if not await has_ended(bus, name)}
    second = asyncio.create_task(_worker(rig, bus, "second", rig.verifier).run())
    try:
        for name, (_, case) in jobs.items():
            transcript = await read_journal(bus, name)
            yield transcript.decoded(case, takeovers=int(name in survivors))
        await asyncio.gather(*ended)
    finally:
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)


def _worker(rig: Rig, bus: Bus, name: str, verifier: VerifierPort) -> JobWorker:
    model = DraftModel(
        name=rig.models.name,
        target_name="target",
        context_length=rig.engines.target.info.context_length,
        tokenizer=rig.engines.tokenizer,
        engines=rig.engines.drafts,
    )
    drafter = Drafter(model, verifier, rig.draft_worker, patience=PATIENCE)
    return JobWorker(
        bus,
        drafter,
        name=name,
        concurrency=TOGETHER,
        idle_s=JOB_IDLE_S,
        bus_patience_s=PATIENCE.verifier_wait_s,
    )


async def read_journal(bus: Bus, request_id: str) -> Transcript:
    """Follow a journal to its end. Raises the error that it ends with."""
    transcript = Transcript()
    async with aclosing(bus.journal.follow(request_id)) as entries:
        async for entry in entries:
            await transcript.put(entry.event)
    return transcript


async def has_ended(bus: Bus, request_id: str) -> bool:
    """Whether a journal has its summary. Raises the error that it ends with."""
    transcript = Transcript()
    for entry in await bus.journal.read(request_id):
        await transcript.put(entry.event)
    return transcript.summary is not None


async def _note_end(bus: Bus, request_id: str, held: HeldVerifier) -> None:
    try:
        await read_journal(bus, request_id)
    finally:
        await held.note_stopped(request_id)


async def _noted(rig: Rig, plan: Plan, job: GenerateJob, case: Case, held: HeldVerifier) -> Decoded:
    try:
        return await rig.decode(plan, case, job=job, verifier=held)
    finally:
        await held.note_stopped(job.request_id)


def _hold(verifier: VerifierPort, jobs: dict[str, tuple[GenerateJob, Case]]) -> HeldVerifier:
    return HeldVerifier(verifier, lambda name: draw(jobs[name][1], 1, MOST_VERDICTS_BEFORE))


async def _start_again(rig: Rig, listen: str) -> VerifierApp:
    """A new server on the address of one that has stopped; the port may take a moment."""
    for attempt in range(BIND_TRIES):
        server = _server(rig, listen)
        try:
            await server.start()
        except ConfigError:
            if attempt == BIND_TRIES - 1:
                raise
            await asyncio.sleep(BIND_PAUSE_S)
        else:
            break
    return server


def _settings(listen: str) -> Settings:
    return Settings(listen=listen, drain_s=0, connect_timeout_s=30)


def _server(rig: Rig, listen: str) -> VerifierApp:
    """A verifier of its own with the rig's weights."""
    return build(_settings(listen), Metrics(), target=rig.target)
