"""A drafter called directly works for the tenant of the credential, not for the one in the job."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hola.config import Settings
from hola.errors import PermissionDenied, Unauthenticated
from hola.rpc.drafter_client import GrpcDrafter
from hola.rpc.server import RpcServer, RpcService
from hola.security.api_keys import new_key
from hola.telemetry import Metrics
from hola.types import DrafterInfo, FinishReason, GenerateEvent, GenerateJob, Summary
from hola.v1 import drafter_pb2, drafter_pb2_grpc
from hola_drafter.servicer import DrafterServicer
from tests.support.security import Pki, replace_file

JOB = GenerateJob(request_id="r1", model="m", prompt="hi")
SUMMARY = Summary(finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=0)
ACME = new_key("acme")


@dataclass
class Recorder:
    """A drafter that answers nothing but remembers for whom it was asked to work."""

    tenants: list[str] = field(default_factory=list)

    async def generate(self, job: GenerateJob) -> AsyncGenerator[GenerateEvent, None]:
        self.tenants.append(job.tenant)
        yield SUMMARY

    async def info(self) -> DrafterInfo:
        return DrafterInfo(version="1", model="m", tiers=(), tokenizer_fingerprint="", verifier="")


@asynccontextmanager
async def drafter(
    server: dict[str, Any], client: dict[str, Any]
) -> AsyncIterator[tuple[Recorder, GrpcDrafter]]:
    """A drafter served with these settings and called with those."""
    recorder: Any = Recorder()
    add = drafter_pb2_grpc.add_DrafterServiceServicer_to_server
    service = RpcService(drafter_pb2.DESCRIPTOR, add, DrafterServicer(recorder))
    serving = RpcServer("127.0.0.1:0", [service], Settings(drain_s=0, **server), Metrics())
    await serving.start()
    calling = GrpcDrafter(serving.address, Settings(**client))
    try:
        yield recorder, calling
    finally:
        await calling.close()
        await serving.stop()


def keys_of(folder: Path) -> dict[str, str]:
    replace_file(folder / "keys", ACME.line.encode())
    return {"api_keys": str(folder / "keys")}


@pytest.mark.parametrize("asked", ["", "default", "acme"])
async def test_a_client_works_for_its_own_tenant(tmp_path: Path, asked: str) -> None:
    async with drafter(keys_of(tmp_path), {"token": ACME.text}) as (recorder, client):
        assert [e async for e in client.generate(replace(JOB, tenant=asked))] == [SUMMARY]
        assert (await client.info()).model == "m"
    assert recorder.tenants == ["acme"]


async def test_a_client_that_names_another_tenant_is_refused(tmp_path: Path) -> None:
    async with drafter(keys_of(tmp_path), {"token": ACME.text}) as (recorder, client):
        with pytest.raises(PermissionDenied, match="acts for no other"):
            await anext(client.generate(replace(JOB, tenant="other")))
    assert recorder.tenants == []


async def test_a_service_works_for_others(pki: Pki) -> None:
    server, client = pki.settings("verifier"), pki.settings("drafter")
    async with drafter(server, client) as (recorder, caller):
        for tenant in ("acme", "other"):
            assert [e async for e in caller.generate(replace(JOB, tenant=tenant))] == [SUMMARY]
    assert recorder.tenants == ["acme", "other"]


async def test_a_device_of_a_tenant_works_for_that_tenant(pki: Pki) -> None:
    device = pki.issue("device", "device", tenant="acme")
    async with drafter(pki.settings("verifier"), device) as (recorder, caller):
        assert [e async for e in caller.generate(JOB)] == [SUMMARY]
        with pytest.raises(PermissionDenied):
            await anext(caller.generate(replace(JOB, tenant="other")))
    assert recorder.tenants == ["acme"]


async def test_a_stranger_gives_no_work(tmp_path: Path) -> None:
    for token in ("", new_key("acme").text, "garbage"):
        async with drafter(keys_of(tmp_path), {"token": token}) as (recorder, client):
            with pytest.raises(Unauthenticated):
                await anext(client.generate(JOB))
            assert recorder.tenants == []
