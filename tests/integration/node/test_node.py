"""The one-process node: in process without a socket, or all four services on one address."""

from __future__ import annotations

import asyncio
import threading
import time

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hola.config import Settings
from hola.errors import ArtifactCorrupt, ConfigError, UnknownModel
from hola.rpc.channel import open_channel
from hola.rpc.drafter_client import GrpcDrafter
from hola.rpc.router_client import RouterClient
from hola.rpc.verifier_client import GrpcVerifier
from hola.types import (
    ChatMessage,
    GenerateJob,
    GenerateRequest,
    SamplingParams,
    SpeculationParams,
    Summary,
)
from hola.v1 import compressor_pb2, compressor_pb2_grpc
from hola_cli.node import Parts, open_node
from tests.support.family_files import write_family
from tests.support.scripted_system import ids_of, text_of, tokens_of
from tests.support.system import (
    MODEL,
    PROMPT,
    collect,
    request,
    settings_for,
    terminal,
    watched_target,
)
from tests.support.verifier import WatchedEngine, eventually, reference


@pytest.fixture
def settings(tmp_path):
    return settings_for(tmp_path, "redis://127.0.0.1:1/0")  # a node must not need it


def engine_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("engine-")]


async def test_without_listen_there_is_no_socket(settings):
    engine = WatchedEngine(seed=7, eos_bias=-1000.0)
    async with open_node(settings, parts=Parts(target=watched_target(engine))) as node:
        assert node.address == ""
        events = await collect(node.router.generate(request()))
        expected = reference(engine, 40, request().sampling, tuple(PROMPT.encode()))
        assert ids_of(events) == expected
        assert (await node.verifier.info()).model == MODEL
    await eventually(lambda: engine_threads() == [], "the engine's thread has ended")


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix"])
async def test_one_address_serves_all_four(settings, tmp_path, listen):
    where = f"unix://{tmp_path}/node.sock" if listen == "unix" else listen
    async with open_node(settings, listen=where) as node:
        router = RouterClient(node.address, settings)
        drafter = GrpcDrafter(node.address, settings)
        verifier = GrpcVerifier(node.address, settings)
        channel = open_channel(node.address, settings)
        inside = await collect(node.router.generate(request("inside")))
        outside = await collect(router.generate(request("outside")))
        assert tokens_of(inside) == tokens_of(outside)
        job = GenerateJob(request_id="job", model=MODEL, prompt=PROMPT, sampling=request().sampling)
        assert text_of(await collect(drafter.generate(job))) == text_of(inside)
        assert (await verifier.info()).model == (await drafter.info()).model == MODEL
        assert (await router.info()).default_model == MODEL
        compressor = compressor_pb2_grpc.CompressorServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await compressor.CancelJob(compressor_pb2.CancelJobRequest(job_id="no"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("Router", "Drafter", "Verifier", "Compressor"):
            question = health_pb2.HealthCheckRequest(service=f"hola.v1.{name}Service")
            answer = await health.Check(question, timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        for client in (router, drafter, verifier, channel):
            await client.close()


async def test_closing_a_busy_node_takes_no_longer_than_the_drain(settings):
    engine = WatchedEngine(seed=7, eos_bias=-1000.0)
    wanted = request(sampling=SamplingParams(max_tokens=4000))
    began = time.monotonic()
    async with open_node(settings, parts=Parts(target=watched_target(engine))) as node:
        events = node.router.generate(wanted)
        for _ in range(3):
            await anext(events)
        await events.aclose()
        began = time.monotonic()
    assert time.monotonic() - began < 5
    await eventually(lambda: engine.opened_sessions == engine.closed_sessions, "no session is left")
    await eventually(lambda: engine_threads() == [], "the engine's thread has ended")


async def test_nodes_side_by_side_do_not_share_anything(settings):
    async with open_node(settings) as one, open_node(settings) as other:
        first, second = await asyncio.gather(
            collect(one.router.generate(request("same-id"))),
            collect(other.router.generate(request("same-id"))),
        )
        assert tokens_of(first) == tokens_of(second)


async def test_a_node_that_cannot_start_leaves_nothing_behind(settings, tmp_path):
    unknown = settings.model_copy(update={"model": "nobody"})
    with pytest.raises(UnknownModel):
        await start(unknown)
    family = write_family(tmp_path)
    draft = family.ladder[0].path / "model.onnx.data"
    draft.write_bytes(draft.read_bytes()[::-1])
    with pytest.raises(ArtifactCorrupt, match=r"model\.onnx\.data"):
        await start(settings.model_copy(update={"model": "tiny"}), parts=scripted_parts())
    with pytest.raises(ConfigError):
        await start(settings, listen="nowhere")
    with pytest.raises(ConfigError, match="HOLA_INSECURE"):
        await start(settings, listen="0.0.0.0:0")
    await eventually(lambda: engine_threads() == [], "the engine's thread has ended")


def scripted_parts():
    return Parts(target=watched_target(WatchedEngine(seed=7)))


async def start(settings, **arguments):
    async with open_node(settings, **arguments):
        pass


@pytest.fixture(scope="module")
def demo_models(repo_root):
    folder = repo_root / "models"
    if not (folder / "demo" / "hola.json").is_file():
        pytest.skip("models/demo is not in this checkout")
    return folder


async def test_the_demo_tiers_answer_exactly(demo_models):
    settings = Settings(model="demo", models_dir=str(demo_models), threads=1)
    began = time.process_time()
    async with open_node(settings) as node:
        assert time.process_time() - began < 4, "a node should start in under two seconds"
        texts = set()
        for ladder in (None, (), ("lookup",)):
            wanted = GenerateRequest(
                messages=(ChatMessage(role="user", content="Tom has 12 apples. He buys 5 more."),),
                sampling=SamplingParams(max_tokens=60, temperature=0.7, seed=3),
                speculation=SpeculationParams(
                    ladder=ladder, max_draft_tokens=None if ladder is None else 6
                ),
            )
            events = await collect(node.router.generate(wanted))
            assert isinstance(terminal(events), Summary)
            texts.add((text_of(events), tuple(ids_of(events))))
        assert len(texts) == 1
