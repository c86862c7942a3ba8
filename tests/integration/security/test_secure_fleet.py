"""Router, drafter and verifier as processes with everything turned on, and what their logs hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from hola.config import Settings
from hola.errors import HolaError, Unauthenticated, UnknownRequest
from hola.rpc.router_client import RouterClient
from hola.rpc.verifier_client import GrpcVerifier
from hola.security.api_keys import new_key
from hola.types import GenerateRequest, SamplingParams, Summary
from tests.support.process import ServiceProcess, running_service
from tests.support.security import AUDIENCE, ISSUER, Pki, key_set, replace_file, signing_key, token
from tests.support.system import collect, terminal

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

MODEL = "scripted:seed=7,eos_bias=-1000"
PROMPT = "xyzzy-Ann-has-a-rash"
PASSWORD = "hunter2-of-redis"
ACME, OTHER = new_key("acme"), new_key("other")
SIGNER = signing_key()


@dataclass
class SecureFleet:
    """Running services; `client` calls the router as whoever holds the token."""

    pki: Pki
    router: str
    verifier: str
    processes: list[ServiceProcess]
    stack: AsyncExitStack

    def client(self, token: str = "", **settings: Any) -> RouterClient:
        chosen = {**self.pki.settings(), "reattach_s": 0.0, **settings}
        client = RouterClient(self.router, Settings(token=token, **chosen))
        self.stack.push_async_callback(client.close)
        return client

    async def stopped(self) -> str:
        """Everything the processes have logged, once they have ended in order."""
        for process in self.processes:
            process.signal()
        assert [await process.exit_code() for process in self.processes] == [0] * 3
        return "\n".join(json.dumps(line) for p in self.processes for line in p.log)


def wanted(request_id: str, prompt: str = PROMPT) -> GenerateRequest:
    sampling = SamplingParams(max_tokens=24, temperature=0.7, seed=3)
    return GenerateRequest(request_id=request_id, prompt=prompt, sampling=sampling)


@pytest.fixture
async def fleet(
    pki: Pki, tmp_path: Path, start_redis: Callable[[], Any]
) -> AsyncIterator[SecureFleet]:
    server = start_redis()
    with redis.Redis(port=server.port) as admin:
        admin.config_set("requirepass", PASSWORD)
    replace_file(tmp_path / "keys", f"{ACME.line}\n{OTHER.line}\n".encode())
    replace_file(tmp_path / "jwks", key_set(SIGNER))
    pki.issue("router")
    common = {
        "HOLA_BUS": f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0",
        "HOLA_MODEL": MODEL,
        "HOLA_LOG_LEVEL": "debug",
        "HOLA_LISTEN": "127.0.0.1:0",
    }
    clients = {
        "HOLA_API_KEYS": str(tmp_path / "keys"),
        "HOLA_JWKS": str(tmp_path / "jwks"),
        "HOLA_JWT_ISSUER": ISSUER,
        "HOLA_JWT_AUDIENCE": AUDIENCE,
    }
    async with AsyncExitStack() as stack:
        processes = []

        async def start(name: str, **settings: str) -> str:
            tls = {f"HOLA_{key.upper()}": value for key, value in pki.settings(name).items()}
            service = running_service(f"hola_{name}", **common, **tls, **settings)
            process = await stack.enter_async_context(service)
            processes.append(process)
            return str((await process.event("serving", 60))["address"])

        pki.issue("drafter")
        verifier = await start("verifier")
        await start("drafter", HOLA_VERIFIER=verifier)
        router = await start("router", **clients)
        yield SecureFleet(pki, router, verifier, processes, stack)


async def refusal(client: RouterClient, request_id: str) -> HolaError:
    with pytest.raises(HolaError) as raised:
        await collect(client.generate(wanted(request_id)))
    return raised.value


async def test_the_whole_way_and_no_secret_in_any_log(fleet: SecureFleet) -> None:
    signed = token(SIGNER)
    assert fleet.router.startswith("grpcs://")
    acme, by_token, other = (fleet.client(text) for text in (ACME.text, signed, OTHER.text))
    first = await collect(acme.generate(wanted("r1")))
    assert isinstance(terminal(first), Summary)
    again = await collect(by_token.resume("r1"))
    assert [type(event) for event in again] == [type(event) for event in first]

    with pytest.raises(UnknownRequest):
        await collect(other.resume("r1"))
    with pytest.raises(UnknownRequest):
        await other.cancel("r1")
    forged = new_key("acme").text
    late = token(SIGNER, exp=1)
    for bad in ("", forged, late, token(signing_key())):
        assert type(await refusal(fleet.client(bad), "r2")) is Unauthenticated
    for settings in ({"tls_ca": ""}, {"tls_server_name": "x"}):
        error = await refusal(fleet.client(ACME.text, **settings), "r3")
        assert type(error) is Unauthenticated
        assert "its certificate is" in error.message
    logs = await fleet.stopped()
    assert "caller_refused" in logs
    secrets = [PROMPT, PASSWORD, ACME.text, OTHER.text, signed, forged, late]
    secrets += [ACME.text.rpartition("_")[2], signed.split(".")[2], "PRIVATE KEY"]
    assert [secret for secret in secrets if secret in logs] == []


async def test_only_services_reach_the_verifier(fleet: SecureFleet, tmp_path: Path) -> None:
    stranger = Pki.at(tmp_path / "stranger").issue("drafter")
    for settings in ({}, fleet.pki.settings(), stranger | fleet.pki.settings()):
        client = GrpcVerifier(fleet.verifier, Settings(connect_timeout_s=2, **settings))
        with pytest.raises(HolaError):
            async with asyncio.timeout(30):
                await client.info()
        await client.close()
    own = GrpcVerifier(fleet.verifier, Settings(**fleet.pki.settings("drafter")))
    assert (await own.info()).model == MODEL
    await own.close()
