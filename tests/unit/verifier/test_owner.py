"""In whose name a session is opened: services act for others, clients for themselves only."""

from __future__ import annotations

import pytest

from hola.convert import verifier_request_to_pb
from hola.engines.worker import EngineWorker
from hola.security.caller import Caller, CallerKind, served
from hola.types import Open
from hola_verifier.host import Limits, VerifierHost
from hola_verifier.servicer import VerifierServicer
from tests.support.verifier import PROMPT, WatchedEngine, target_of


@pytest.mark.parametrize(
    ("kind", "owner"),
    [
        (CallerKind.SERVICE, "asked"),
        (CallerKind.ANONYMOUS, "asked"),
        (CallerKind.CLIENT, "own"),
    ],
)
async def test_whose_session_it_is(kind: CallerKind, owner: str) -> None:
    target = target_of(WatchedEngine())
    worker = EngineWorker("test")
    host = VerifierHost(target, worker, Limits(kv_budget_bytes=2**20))
    request = Open(
        session_id="s1",
        model="",
        tokenizer_fingerprint=target.tokenizer_fingerprint,
        prompt=PROMPT,
        tenant="asked",
    )

    async def requests():
        yield verifier_request_to_pb(request)

    with served(Caller(tenant="own", kind=kind)):
        kinds = [
            answer.WhichOneof("message")
            async for answer in VerifierServicer(host).Verify(requests(), None)
        ]
    assert kinds == ["opened", "done"]
    assert [each.tenant for each in host._table.entries()] == [owner]
    await host.close()
    await worker.close()
