"""In whose name a session is opened: services act for others, clients for themselves only."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hola.convert import verifier_request_to_pb
from hola.engines.worker import EngineWorker
from hola.errors import PermissionDenied
from hola.security.caller import Caller, CallerKind, served
from hola.types import Open
from hola.v1 import verifier_pb2
from hola_verifier.host import Limits, VerifierHost
from hola_verifier.hosts import Hosts
from hola_verifier.servicer import VerifierServicer
from tests.support.verifier import PROMPT, WatchedEngine, target_of


@pytest.fixture
async def host() -> AsyncIterator[VerifierHost]:
    worker = EngineWorker("test")
    host = VerifierHost(target_of(WatchedEngine()), worker, Limits(kv_budget_bytes=2**20))
    yield host
    await host.close()
    await worker.close()


async def owners(host: VerifierHost, caller: Caller, asked: str) -> list[str]:
    """The owners of all sessions, after the caller has opened one in the name of `asked`."""
    request = Open(
        session_id="s1",
        model="",
        tokenizer_fingerprint=host.info().tokenizer_fingerprint,
        prompt=PROMPT,
        tenant=asked,
    )

    async def requests() -> AsyncIterator[verifier_pb2.VerifyRequest]:
        yield verifier_request_to_pb(request)

    with served(caller):
        async for _ in VerifierServicer(Hosts(host)).Verify(requests(), None):  # type: ignore[arg-type]
            pass
    return [each.tenant for each in host._table.entries()]


@pytest.mark.parametrize("kind", [CallerKind.SERVICE, CallerKind.ANONYMOUS])
async def test_a_service_acts_for_whom_it_says(host: VerifierHost, kind: CallerKind) -> None:
    assert await owners(host, Caller(kind=kind), "asked") == ["asked"]


async def test_a_client_acts_for_itself_only(host: VerifierHost) -> None:
    client = Caller(tenant="own", kind=CallerKind.CLIENT)
    with pytest.raises(PermissionDenied):
        await owners(host, client, "asked")
    assert host.info().kv_bytes == 0
    assert await owners(host, client, "own") == ["own"]
