"""A pool over mTLS: pods share their service's name, and a stranger is named as such."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hola.errors import VerifierUnavailable
from hola.rpc import verifier_sources
from hola.rpc.verifier_pool import VerifierPool
from hola_verifier.app import build
from tests.support.fleet import SAMPLING, Walk, fleet_settings
from tests.support.security import Pki
from tests.support.verifier import Rig, WatchedEngine, reference, target_of


async def test_a_name_s_pods_show_certificates_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(verifier_sources, "resolve", lookup)
    pki = Pki.at(tmp_path / "pki")
    serving = fleet_settings(listen="127.0.0.1:0", **pki.issue("verifier", "verifiers.svc"))
    calling = fleet_settings(**pki.issue("drafter", "drafter"))
    engine = WatchedEngine()
    target = target_of(engine)
    app = build(serving, target=target)
    await app.start()
    try:
        port = app.address.rpartition(":")[2]
        pool = VerifierPool(f"dns:///verifiers.svc:{port}", calling)
        walk = Walk(Rig(app=app, port=pool, engine=engine, target=target, settings=serving))
        assert await walk.run(pool, 8) == reference(engine, 8, SAMPLING)
        await pool.close()

        other = Pki.at(tmp_path / "other")
        stranger = fleet_settings(**other.issue("drafter", "drafter"))
        for spec in (f"dns:///verifiers.svc:{port}", f"127.0.0.1:{port},localhost:{port}"):
            pool = VerifierPool(spec, stranger)
            async with asyncio.timeout(30):
                with pytest.raises(VerifierUnavailable, match="not signed by"):
                    await pool.connect("s1")
            await pool.close()
    finally:
        await app.stop()
