"""The compressor over gRPC: a job's life, re-attaching, cancelling, artifacts and reports."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hola.bus.memory import MemoryBus
from hola.compression.job import JobState
from hola.compression.report import parse_report
from hola.compression.request import JobRequest
from hola.config import Settings
from hola.errors import DuplicateRequest, UnknownModel, UnknownRequest
from hola.models.family import verify_digests
from hola.models.store import ModelStore
from hola.rpc.channel import open_channel
from hola.rpc.compressor_client import CompressorClient
from hola.v1 import compressor_pb2, compressor_pb2_grpc
from tests.support.compression import done, ended, plan_json, running_compressor
from tests.support.process import running_service


async def begun(client: CompressorClient, steps: int = 5000) -> str:
    """A job that runs: it has made progress."""
    plan = plan_json(recover={"steps": steps})
    job = (await client.submit(JobRequest(model="tiny", plan_json=plan))).job_id
    async with aclosing(client.watch(job)) as statuses:
        async for status in statuses:
            if status.progress > 0:
                break
    return job


async def test_a_job_from_submission_to_a_family_that_loads(tmp_path: Path) -> None:
    async with running_compressor(tmp_path) as client:
        submitted = await client.submit(
            JobRequest(model="tiny", job_id="mine", plan_json=plan_json(recover={"steps": 30}))
        )
        assert submitted.job_id == "mine"
        assert submitted.memory_bytes > 0
        assert submitted.smallest_bytes > 0
        statuses = await ended(client, "mine")
        artifacts = await client.artifacts()
        info, text = await client.report("tiny-lobi")
    shares = [status.progress for status in statuses]
    assert shares == sorted(shares)
    assert {"recover", "done"} <= {status.stage for status in statuses}
    assert any(status.eta_s is not None for status in statuses)
    last = statuses[-1]
    assert (last.state, last.progress, last.attempts) == (JobState.DONE, 1.0, 1)
    family = ModelStore(tmp_path / "models").get("tiny-lobi")
    verify_digests(family)
    assert last.artifact == info
    assert family.target.digest == info.digest
    assert [tier.name for tier in family.tiers] == ["draft", "target"]
    assert (info.source, info.license) == ("tiny/target", "Apache-2.0")
    made = family.target.provenance
    assert made is not None
    assert (made.source_sha256, made.plan["target_bytes"]) == (info.source_sha256, 5000)
    assert parse_report(json.loads(text)).bits_per_weight == 4.5
    assert [(each.model, each.tier, each.has_report) for each in artifacts] == [
        ("tiny", "draft", False),
        ("tiny", "target", False),
        ("tiny-lobi", "draft", False),
        ("tiny-lobi", "target", True),
    ]
    assert not list((tmp_path / "data" / "compression").glob("*/*")), "the job's directory is gone"


async def test_the_same_job_again_gives_the_same_artifact(tmp_path: Path) -> None:
    async with running_compressor(tmp_path) as client:
        first, second = await done(client), await done(client)
        other = await done(client, plan_json=plan_json(seed=3))
    assert first.artifact is not None
    assert second.artifact is not None
    assert other.artifact is not None
    assert first.artifact.digest == second.artifact.digest != other.artifact.digest
    kept = {each.name for each in (tmp_path / "models/tiny-lobi/artifacts").iterdir()}
    assert kept == {first.artifact.digest, other.artifact.digest}


async def test_an_artifact_can_take_the_place_of_its_source(tmp_path: Path) -> None:
    async with running_compressor(tmp_path) as client:
        last = await done(client, name="tiny")
        again = await done(client, name="tiny", plan_json=plan_json(seed=1))
    assert (last.state, again.state) == (JobState.DONE, JobState.DONE), again.failure
    family = ModelStore(tmp_path / "models").get("tiny")
    assert again.artifact is not None
    assert family.target.digest == again.artifact.digest
    assert family.target.checkpoint == tmp_path / "models/tiny/target"


async def test_a_draft_joins_the_ladder_of_its_target(tmp_path: Path) -> None:
    async with running_compressor(tmp_path) as client:
        last = await done(client, plan_json=plan_json(objective="draft", draft_for="tiny"))
    assert last.state is JobState.DONE, last.failure
    family = ModelStore(tmp_path / "models").get("tiny-lobi")
    assert {tier.name for tier in family.ladder} == {"draft", "lobi"}
    assert family.target.name == "target"


async def test_a_watch_can_be_left_and_taken_up_again_by_many(tmp_path: Path) -> None:
    async with running_compressor(tmp_path) as client:
        job = await begun(client, steps=60)
        ways = await asyncio.gather(*(ended(client, job) for _ in range(3)))
        assert [way[-1].state for way in ways] == [JobState.DONE] * 3
        assert (await ended(client, job))[0].state is JobState.DONE, "an ended job is still known"


async def test_cancel_stops_the_work_and_publishes_nothing(tmp_path: Path) -> None:
    async with running_compressor(tmp_path) as client:
        job = await begun(client)
        assert await client.cancel(job)
        assert not await client.cancel(job)
        assert (await ended(client, job))[-1].state is JobState.CANCELLED
        # The next job runs: the worker has let go of this one.
        assert (await done(client)).state is JobState.DONE
        assert len(await client.artifacts("tiny-lobi")) == 2
    assert not list((tmp_path / "data" / "compression").glob("*/*"))


async def test_health_and_cancel_answer_while_passes_run(tmp_path: Path) -> None:
    async with running_compressor(tmp_path) as client:
        job = await begun(client)
        async with open_channel(f"unix://{tmp_path}/c.sock", Settings()) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for _ in range(20):
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert await client.cancel(job)


async def test_ids_are_taken_once_and_unknown_ones_are_not_found(tmp_path: Path) -> None:
    async with running_compressor(tmp_path) as client:
        await done(client, job_id="mine")
        with pytest.raises(DuplicateRequest):
            await done(client, job_id="mine")
        with pytest.raises(UnknownRequest):
            await ended(client, "yours")
        with pytest.raises(UnknownRequest):
            await client.cancel("yours")
        with pytest.raises(UnknownModel):
            await client.artifacts("nothing")
        with pytest.raises(UnknownModel, match="no report"):
            await client.report("tiny")


async def test_a_failed_job_ends_its_call_with_the_status_of_the_failure(tmp_path: Path) -> None:
    async with running_compressor(tmp_path) as client:
        request = JobRequest(model="tiny", job_id="short", plan_json=plan_json(seed=9003))
        await client.submit(request)
        last = (await ended(client, "short"))[-1]
        assert last.failure is not None
        assert last.failure.reason == "CALIBRATION_TOO_SHORT"
        async with open_channel(f"unix://{tmp_path}/c.sock", Settings()) as channel:
            stub: Any = compressor_pb2_grpc.CompressorServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                async for _ in stub.WatchJob(compressor_pb2.WatchJobRequest(job_id="short")):
                    pass
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_two_workers_share_a_queue_and_each_runs_one_job(tmp_path: Path) -> None:
    bus = MemoryBus()
    (tmp_path / "other").mkdir()
    places = {"models_dir": str(tmp_path / "models"), "data_dir": str(tmp_path / "data")}
    async with running_compressor(tmp_path, bus, name="one") as client:
        plan = plan_json(recover={"steps": 80})
        jobs = [
            (await client.submit(JobRequest(model="tiny", plan_json=plan, name=f"out-{n}"))).job_id
            for n in range(2)
        ]
        async with running_compressor(tmp_path / "other", bus, name="two", **places):
            ways = await asyncio.gather(*(ended(client, job) for job in jobs))
    assert {way[-1].worker for way in ways} == {"one", "two"}
    assert all(way[-1].state is JobState.DONE for way in ways)


async def test_it_runs_and_stops_as_a_process(tmp_path: Path) -> None:
    listen = f"unix://{tmp_path}/c.sock"
    settings = {"HOLA_LISTEN": listen, "HOLA_BUS": "memory:", "HOLA_DATA_DIR": str(tmp_path)}
    async with running_service("hola_compressor", **settings) as process:
        serving = await process.event("serving")
        assert serving["services"] == ["hola.v1.CompressorService"]
        process.signal()
        assert await process.exit_code() == 0
