"""A new artifact under load: no request fails, and none mixes the old target with the new one."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from hola.bus.from_settings import bus_from
from hola.compression.job import Release
from hola.compression.report import Report, write_report
from hola.config import Settings
from hola.models.family import TierSource, write_manifest
from hola.models.manifest import Tier
from hola.models.publish import Publication, publish
from hola.models.store import ModelStore
from hola.rpc.router_client import RouterClient
from hola.rpc.verifier_client import GrpcVerifier
from hola.types import (
    Exactness,
    GenerateRequest,
    SamplingParams,
    SpeculationParams,
    Summary,
    Tokens,
)
from tests.support.process import running_service
from tests.support.tiny_models import export, write_checkpoint

pytestmark = [pytest.mark.torch, pytest.mark.redis]

PROMPTS = ("Tom has 12 apples.", "Who wrote it?", "One two three four", "zzz")
CLIENTS = 4
PATIENCE_S = 90
TOKENS = 40


def request(prompt: str, name: str, *, draft: int | None = None) -> GenerateRequest:
    return GenerateRequest(
        request_id=name,
        prompt=prompt,
        sampling=SamplingParams(max_tokens=TOKENS, temperature=0.7, seed=5),
        speculation=SpeculationParams(max_draft_tokens=draft),
    )


async def answer(client: RouterClient, wanted: GenerateRequest) -> tuple[int, ...]:
    """The tokens of one request, which must end well."""
    tokens: list[int] = []
    async for event in client.generate(wanted):
        last = event
        if isinstance(event, Tokens):
            tokens += [each.token for each in event.tokens]
    assert isinstance(last, Summary), last
    assert last.exactness is Exactness.EXACT
    return tuple(tokens)


async def plain(client: RouterClient, label: str) -> list[tuple[int, ...]]:
    """What the target alone writes now, for each prompt."""
    return [
        await answer(client, request(prompt, f"{label}-{n}", draft=0))
        for n, prompt in enumerate(PROMPTS)
    ]


def model(folder: Path, seed: int) -> Path:
    """An exported random model; all have one tokenizer."""
    write_checkpoint(folder / f"checkpoint-{seed}", seed=seed)
    return export(folder / f"checkpoint-{seed}", folder / f"model-{seed}", "fp32")


def write_tiny(exported: list[Path], models: Path) -> None:
    """The family `tiny`: one random model as target, another one as draft."""
    models.mkdir()
    for name, built in zip(("target", "draft"), exported, strict=True):
        shutil.copytree(built, models / "tiny" / name, ignore=_no_cache)
    write_manifest(
        models / "tiny",
        name="tiny",
        target=TierSource(name="target", path="target"),
        ladder=[TierSource(name="draft", path="draft")],
    )


def _no_cache(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "cache"]


def put(models: Path, built: Path, tier: str) -> Tier:
    """Publish a model directory as a compression job does."""
    report = Report(
        source="tiny/target",
        parameters=1,
        bytes=1,
        overhead_bytes=0,
        bits_per_weight=32.0,
        original_bytes=1,
    )
    write_report(report, built / "report.json")
    shutil.rmtree(built / "cache", ignore_errors=True)
    where = Publication(
        name="tiny", tier=tier, base=None, source="tiny/target", source_sha256="0" * 64, plan={}
    )
    return publish(ModelStore(models), built, where)


class Load:
    """Clients that ask without a pause, and what they got: (prompt's number, tokens)."""

    def __init__(self, client: RouterClient) -> None:
        self.outputs: list[tuple[int, tuple[int, ...]]] = []
        self._client = client
        self._ending = False

    async def run(self, number: int) -> None:
        for turn in itertools.count():
            at = (number + turn) % len(PROMPTS)
            wanted = request(PROMPTS[at], f"load-{number}-{turn}")
            self.outputs.append((at, await answer(self._client, wanted)))
            if self._ending:
                return

    async def more(self, count: int) -> None:
        """Until so many more answers have come."""
        wanted = len(self.outputs) + count
        while len(self.outputs) < wanted:  # noqa: ASYNC110 - the clients' tasks append
            await asyncio.sleep(0.05)

    def end(self) -> None:
        self._ending = True


async def test_a_new_target_and_draft_under_load(tmp_path: Path, redis_url: str) -> None:
    models, bus_url = tmp_path / "models", redis_url.removesuffix("/0") + "/9"
    exported = [model(tmp_path, seed) for seed in (0, 1)]
    write_tiny(exported, models)

    def address(service: str) -> str:
        return f"unix://{tmp_path}/{service}.sock"

    common = {
        "HOLA_MODELS_DIR": str(models),
        "HOLA_MODEL": "tiny",
        "HOLA_BUS": bus_url,
        "HOLA_VERIFIER": address("verifier"),
        "HOLA_THREADS": "1",
        "HOLA_SESSION_TTL_S": "3",
    }
    async with AsyncExitStack() as stack:
        for service in ("verifier", "drafter", "router"):
            running = running_service(f"hola_{service}", **common, HOLA_LISTEN=address(service))
            await (await stack.enter_async_context(running)).event("serving")
        settings = Settings(bus=bus_url)
        client = RouterClient(address("router"), settings)
        stack.push_async_callback(client.close)
        verifier = GrpcVerifier(address("verifier"), settings)
        stack.push_async_callback(verifier.close)
        bus = await bus_from(settings)
        stack.push_async_callback(bus.close)

        old, before = await plain(client, "old"), await verifier.info()
        load = Load(client)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(load.run(number))
            await load.more(2 * CLIENTS)
            for built, tier in zip(exported, ("draft", "target"), strict=True):
                digest = (await asyncio.to_thread(put, models, built, tier)).digest
                await bus.releases.announce(Release(model="tiny", tier=tier, digest=digest))
            await until_served(verifier, digest)
            await load.more(3 * CLIENTS)
            load.end()
        new, after = await plain(client, "new"), await verifier.info()

    assert all(a != b for a, b in zip(old, new, strict=True)), "the artifacts write other texts"
    assert after.fingerprint != before.fingerprint
    assert after.tokenizer_fingerprint == before.tokenizer_fingerprint
    mixed = [output for at, output in load.outputs if output not in (old[at], new[at])]
    assert not mixed
    seen = {output == new[at] for at, output in load.outputs}
    assert seen == {True, False}, "the load saw both artifacts"


async def until_served(verifier: GrpcVerifier, digest: str) -> None:
    """Until new sessions get the artifact."""
    while (await verifier.info()).artifact_digest != digest:  # noqa: ASYNC110 - a process
        await asyncio.sleep(0.1)
