"""A verifier of its own hears of a new artifact on the bus, and does without one that is away."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

import hola_verifier.app
from hola.bus.from_settings import bus_from
from hola.compression.job import Release
from hola.config import Settings
from hola.models.family import TierSource, write_manifest
from hola.models.store import ModelStore
from hola.models.watch import FamilyWatch
from hola_verifier.target import Target
from tests.support.family_files import write_family
from tests.support.verifier import WatchedEngine, eventually, target_of

PATIENCE_S = 60


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the verifier has looked at its family, which without word it does once an hour."""
    once = threading.Event()

    class Watch(FamilyWatch):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, look_s=3600.0)

        def _read(self) -> Any:
            family = super()._read()
            once.set()
            return family

    monkeypatch.setattr(hola_verifier.app, "FamilyWatch", Watch)
    return once


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The family `tiny`, loaded as a scripted engine that says its digest."""

    def load(settings: Settings) -> Target:
        digest = ModelStore.at(settings.models_dir).get(settings.model).target.digest
        return replace(target_of(WatchedEngine()), artifact_digest=digest)

    monkeypatch.setattr(hola_verifier.app, "load_target", load)
    write_family(tmp_path / "models")
    return tmp_path / "models"


def put_other_target(models: Path) -> str:
    """Change the family's target; gives its digest."""
    (models / "tiny/target/model.onnx.data").write_bytes(b"other weights")
    changed = write_manifest(
        models / "tiny",
        name="tiny",
        target=TierSource(name="target", path="target"),
        ladder=[TierSource(name="draft", path="draft")],
    )
    return changed.target.digest


def settings_of(models: Path, bus: str, **changes: Any) -> Settings:
    listen = f"unix://{models.parent}/v.sock"
    return Settings(
        **{
            "bus": bus,
            "models_dir": str(models),
            "model": "tiny",
            "listen": listen,
            "drain_s": 0.0,
            "memory_budget_mb": 16,
            **changes,
        }
    )


@pytest.mark.redis
@pytest.mark.parametrize("advertises", [False, True])
async def test_word_of_a_release_is_heard_at_once(
    models: Path, looked: threading.Event, redis_url: str, advertises: bool
) -> None:
    url = redis_url.removesuffix("/0") + "/7"
    advertise = f"unix://{models.parent}/v.sock" if advertises else ""
    settings = settings_of(models, url, advertise=advertise)
    app = hola_verifier.app.build(settings)
    await app.start()
    bus = await bus_from(settings)
    try:
        assert await asyncio.to_thread(looked.wait, PATIENCE_S)
        digest = put_other_target(models)
        word = Release(model="tiny", tier="target", digest=digest)
        async with asyncio.timeout(PATIENCE_S):
            while app.host.info().artifact_digest != digest:
                await bus.releases.announce(word)  # who does not follow yet misses it
                await asyncio.sleep(0.05)
    finally:
        await bus.close()
        await app.stop()
    await no_connections(redis_url)


async def no_connections(redis_url: str) -> None:
    """Until nobody is connected to the database any more: what was opened was closed."""
    with redis.Redis.from_url(redis_url) as client:
        await eventually(
            lambda: all(each["db"] != "7" for each in client.client_list()), "nobody is connected"
        )


@pytest.mark.parametrize("bus", ["redis://127.0.0.1:1/0", "nonsense", "memory:"])
async def test_it_serves_without_a_bus(models: Path, looked: threading.Event, bus: str) -> None:
    app = hola_verifier.app.build(settings_of(models, bus))
    await app.start()
    try:
        await eventually(looked.is_set, "the verifier looked at the store")
        assert (await app.port.info()).artifact_digest == app.host.info().artifact_digest
    finally:
        await app.stop()
