"""A verifier's target is swapped: sessions end where they began, new ones get the new target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hola.engines.worker import EngineWorker
from hola.errors import FingerprintMismatch
from hola.types import CancelSession, DraftBlock
from hola_verifier.host import Limits, VerifierHost
from tests.support.verifier import (
    Rig,
    WatchedEngine,
    ask,
    eventually,
    plain,
    reference,
    running_verifier,
    target_of,
)

TOKENS = 6


def swap(rig: Rig, kept_s: float = 0.0) -> tuple[WatchedEngine, list[str]]:
    """Give the verifier a target with other weights; what was freed is written down."""
    engine, worker, freed = WatchedEngine(seed=99), EngineWorker("new"), []
    target = replace(target_of(engine), artifact_digest="b" * 64)
    limits = Limits(kv_budget_bytes=2**20)
    host = VerifierHost(target, worker, limits, door=rig.app.hosts.door)

    async def free() -> None:
        freed.append("new")
        await worker.close(1.0)

    rig.app.hosts.swap(host, free, kept_s=kept_s)
    return engine, freed


@pytest.mark.parametrize("kind", ["local", "unix"])
async def test_a_running_session_ends_on_the_old_target(kind: str, tmp_path: Path) -> None:
    async with running_verifier(kind, tmp_path) as rig:
        link = await rig.opened()
        tokens = await plain(link, 2)
        engine, _ = swap(rig)
        fresh = await rig.opened(session_id="s2")
        new = await plain(fresh, TOKENS)
        tokens += await plain(link, TOKENS - 2, first_round=3, base=2)
        assert tokens == reference(rig.engine, TOKENS)
        assert new == reference(engine, TOKENS) != tokens
        assert (await rig.port.info()).artifact_digest == "b" * 64
        await link.close()
        await fresh.close()


async def test_a_session_comes_back_to_its_own_target(tmp_path: Path) -> None:
    async with running_verifier("unix", tmp_path) as rig:
        link = await rig.opened()
        tokens = await plain(link, 2)
        await link.close()  # broken, not finished: it waits for a takeover
        swap(rig)
        again: Any = await rig.port.connect()
        request = rig.open_request(
            committed=tuple(tokens), required_fingerprint=rig.target.digest, allow_degraded=False
        )
        opened = await ask(again, request)
        assert opened.fingerprint == rig.target.digest
        tokens += await plain(again, 2, base=2)
        assert tokens == reference(rig.engine, 4)
        await again.close()


async def test_a_session_of_the_old_numerics_from_elsewhere_is_taken_while_they_are_kept(
    tmp_path: Path,
) -> None:
    async with running_verifier("local", tmp_path) as rig:
        swap(rig, kept_s=60)
        begun = rig.open_request(
            committed=tuple(reference(rig.engine, 2)), required_fingerprint=rig.target.digest
        )
        link: Any = await rig.port.connect()
        assert (await ask(link, begun)).fingerprint == rig.target.digest
        assert await plain(link, 2, base=2) == reference(rig.engine, 4)[2:]
        await link.close()


async def test_the_old_target_goes_with_its_last_session(tmp_path: Path) -> None:
    async with running_verifier("local", tmp_path) as rig:
        link = await rig.opened()
        await plain(link, 1)
        swap(rig)
        assert len(rig.app.hosts.all) == 2
        await ask(link, DraftBlock(round=2, base_position=1))
        await ask(link, CancelSession())
        await eventually(lambda: len(rig.app.hosts.all) == 1, "the old host has gone")
        assert rig.engine.closed_sessions == rig.engine.opened_sessions
        begun = rig.open_request(
            committed=(1,), required_fingerprint=rig.target.digest, allow_degraded=False
        )
        other: Any = await rig.port.connect()
        with pytest.raises(FingerprintMismatch):
            await ask(other, begun)
        await other.close()


async def test_stopping_closes_all_hosts(tmp_path: Path) -> None:
    async with running_verifier("local", tmp_path) as rig:
        link = await rig.opened()
        await plain(link, 1)
        engine, freed = swap(rig, kept_s=60)
        fresh = await rig.opened(session_id="s2")
        await plain(fresh, 1)
        await rig.app.stop()
        assert freed == ["new"]
        assert engine.closed_sessions == engine.opened_sessions
        assert rig.engine.closed_sessions == rig.engine.opened_sessions
