"""Who may have models compressed: services, and clients of the tenants that are named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hola.bus.memory import MemoryBus
from hola.compression.request import JobRequest
from hola.config import Settings
from hola.errors import PermissionDenied, UnknownRequest
from hola.rpc.compressor_client import CompressorClient
from hola_compressor.app import build
from tests.support.compression import plan_json, write_source_family
from tests.support.compressor_main import CHILD
from tests.support.security import Pki

REQUEST = JobRequest(model="tiny", job_id="mine", plan_json=plan_json())


async def _watch(client: CompressorClient) -> None:
    async for _ in client.watch("mine"):
        pass


CALLS: list[Callable[[CompressorClient], Awaitable[Any]]] = [
    lambda client: client.submit(REQUEST),
    _watch,
    lambda client: client.cancel("mine"),
    lambda client: client.artifacts(),
    lambda client: client.report("tiny"),
]


async def test_clients_need_to_be_named_and_see_their_own_jobs(tmp_path: Path) -> None:
    pki = Pki.at(tmp_path / "pki")
    write_source_family(tmp_path / "models")
    for name, tenant in (("compressor", ""), ("admin", ""), ("acme", "acme"), ("other", "other")):
        pki.issue(name, tenant=tenant)
    settings = Settings(
        listen="127.0.0.1:0",
        models_dir=str(tmp_path / "models"),
        data_dir=str(tmp_path / "data"),
        compress_tenants="somebody, acme",
        drain_s=0.0,
        **pki.settings("compressor"),
    )
    app = build(settings, bus=MemoryBus(), child=CHILD)
    await app.start()
    clients = {
        name: CompressorClient(app.address, Settings(**pki.settings(name)))
        for name in ("admin", "acme", "other")
    }
    try:
        for call in CALLS:
            with pytest.raises(PermissionDenied, match="HOLA_COMPRESS_TENANTS"):
                await call(clients["other"])
        await clients["acme"].submit(REQUEST)
        for tell in (clients["admin"].cancel, lambda job: _watch(clients["admin"])):
            with pytest.raises(UnknownRequest):
                await tell("mine")
        await clients["admin"].submit(REQUEST)  # a name of its own
        await _watch(clients["acme"])
        await _watch(clients["admin"])
        assert len(await clients["acme"].artifacts("tiny-lobi")) == 2
    finally:
        for client in clients.values():
            await client.close()
        await app.stop()
