"""Two tenants and a stranger on a fleet with everything turned on: the table of what is refused.

docs/SECURITY.md has the same table in words. Every row runs against the same running and finished
requests of tenant acme, which must come out of it unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

import hola_drafter.app
import hola_router.app
import hola_verifier.app
from hola.config import Settings
from hola.errors import HolaError
from hola.idempotency import request_id_of_key
from hola.retrieval.queries import SearchQuestion
from hola.rpc.drafter_client import GrpcDrafter
from hola.rpc.retrieval_client import RetrievalClient
from hola.rpc.router_client import RouterClient
from hola.rpc.verifier_client import GrpcVerifier
from hola.security.api_keys import new_key
from hola.types import (
    DraftBlock,
    GenerateEvent,
    GenerateJob,
    GenerateRequest,
    Open,
    SamplingParams,
)
from hola_router.naming import bus_id
from tests.support.library import parts
from tests.support.scripted_system import ids_of
from tests.support.security import (
    AUDIENCE,
    ISSUER,
    Pki,
    claims,
    key_set,
    replace_file,
    signing_key,
    token,
    unsigned,
)
from tests.support.system import MODEL, PROMPT, collect, terminal, watched_target
from tests.support.verifier import WatchedEngine, eventually, reference

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]

ACME, OTHER, REVOKED = new_key("acme"), new_key("other"), new_key("acme")
SIGNER, STRANGER = signing_key(), signing_key()
SAMPLING = SamplingParams(max_tokens=40, temperature=0.7, seed=11)
DOCUMENTS: dict[str, bytes | str] = {"secret": "The vault opens at noon."}
NOT_FOUND, PERMISSION_DENIED, UNAUTHENTICATED = 5, 7, 16
# No status: the verifier ends the TLS handshake, before there is any call.
HANDSHAKE = -1


@dataclass
class Fleet:
    """Router, drafter and verifier with TLS on loopback ports, and acme's two requests there."""

    pki: Pki
    stranger: Pki
    router: str
    drafter: str
    verifier: str
    engine: WatchedEngine
    stack: AsyncExitStack
    finished: list[GenerateEvent] = field(default_factory=list)
    job_id: str = ""

    def at_router(self, credential: str, **settings: Any) -> RouterClient:
        """A router's client that shows a key or token."""
        chosen = {**self.pki.settings(), "reattach_s": 0.0, **settings}
        return self._closed(RouterClient(self.router, Settings(token=credential, **chosen)))

    def at_library(self, credential: str) -> RetrievalClient:
        """The same router's collections."""
        chosen = Settings(token=credential, **self.pki.settings())
        return self._closed(RetrievalClient(self.router, chosen))

    def at_drafter(self, credential: str) -> GrpcDrafter:
        chosen = Settings(token=credential, **self.pki.settings())
        return self._closed(GrpcDrafter(self.drafter, chosen))

    def at_verifier(self, **settings: Any) -> GrpcVerifier:
        return self._closed(GrpcVerifier(self.verifier, Settings(connect_timeout_s=2, **settings)))

    def _closed(self, client: Any) -> Any:
        self.stack.push_async_callback(client.close)
        return client


def ask(request_id: str = "", **changes: Any) -> GenerateRequest:
    return GenerateRequest(request_id=request_id, prompt=PROMPT, sampling=SAMPLING, **changes)


def expected(fleet: Fleet) -> list[int]:
    return reference(fleet.engine, SAMPLING.max_tokens, SAMPLING, tuple(PROMPT.encode()))


@asynccontextmanager
async def running_fleet(
    pki: Pki, folder: Path, database: str, **front: str
) -> AsyncIterator[Fleet]:
    engine = WatchedEngine(seed=7, eos_bias=-1000.0)
    common = {
        "listen": "127.0.0.1:0",
        "bus": database,
        "model": MODEL,
        "models_dir": str(folder),
        "data_dir": str(folder / "data"),
        "embedder": "none",
        "drain_s": 0.0,
        "memory_budget_mb": 64,
        "detach_grace_s": 1000.0,
    }
    async with AsyncExitStack() as stack:
        stack.callback(engine.release)

        async def start(module: Any, name: str, **own: Any) -> str:
            settings = Settings(**{**common, **pki.issue(name), **own.pop("settings", {})})
            app = module.build(settings, **own)
            stack.push_async_callback(app.stop)
            await app.start()
            return str(app.address)

        verifier = await start(hola_verifier.app, "verifier", target=watched_target(engine))
        drafter = await start(hola_drafter.app, "drafter", settings={"verifier": verifier, **front})
        router = await start(hola_router.app, "router", settings=front)
        stranger = Pki.at(folder / "stranger")
        yield Fleet(pki, stranger, router, drafter, verifier, engine, stack)


@pytest.fixture
async def fleet(pki: Pki, tmp_path: Path, start_redis: Callable[[], Any]) -> AsyncIterator[Fleet]:
    """The fleet with acme's request "done" finished; acme's key "acme's key" made "done" too.

    acme's collection "work" holds the source "secret", by an ingest and by a job.
    """
    replace_file(tmp_path / "keys", f"{ACME.line}\n{OTHER.line}\n".encode())
    replace_file(tmp_path / "jwks", key_set(SIGNER))
    front = {
        "api_keys": str(tmp_path / "keys"),
        "jwks": str(tmp_path / "jwks"),
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
    }
    server = start_redis()
    async with running_fleet(pki, tmp_path, server.url, **front) as running:
        acme = running.at_router(ACME.text)
        running.finished = await collect(acme.generate(ask("done")))
        assert ids_of(running.finished) == expected(running)
        await collect(acme.generate(ask(idempotency_key="acme's key")))
        library = running.at_library(ACME.text)
        await library.ingest(parts(DOCUMENTS))
        running.job_id = (await library.ingest(parts(DOCUMENTS, background=True))).job_id
        assert [report async for report in library.watch(running.job_id)][-1].unchanged == 1
        yield running
    server.kill()


Operation = Callable[[Fleet], Awaitable[object]]


@dataclass(frozen=True)
class Row:
    """One forbidden operation, and the status it must get."""

    does: Operation
    status: int


def resume(request_id: str, position: int = 0) -> Operation:
    return lambda fleet: collect(fleet.at_router(OTHER.text).resume(request_id, position))


def cancel(request_id: str) -> Operation:
    return lambda fleet: fleet.at_router(OTHER.text).cancel(request_id)


def directly(credential: str, tenant: str) -> Operation:
    job = GenerateJob(request_id="run", model=MODEL, prompt=PROMPT, tenant=tenant)
    return lambda fleet: collect(fleet.at_drafter(credential).generate(job))


def in_library(call: Callable[[RetrievalClient, Fleet], Awaitable[object]]) -> Operation:
    """A call of tenant other's."""
    return lambda fleet: call(fleet.at_library(OTHER.text), fleet)


async def watched(client: RetrievalClient, job_id: str) -> object:
    return [report async for report in client.watch(job_id)]


def vault(*collections: str) -> SearchQuestion:
    return SearchQuestion(text="vault", collections=collections)


def open_session(tenant: str, request_id: str = "run") -> Open:
    return Open(
        session_id=bus_id("acme", request_id),
        model=MODEL,
        tokenizer_fingerprint="",
        prompt=(1, 2, 3),
        tenant=tenant,
    )


async def verify(fleet: Fleet, tenant: str, **settings: str) -> object:
    """Open a session at the verifier in a tenant's name."""
    port = fleet.at_verifier(**settings)
    info = await fleet.at_verifier(**fleet.pki.settings("drafter")).info()
    link = await port.connect()
    try:
        await link.send(
            replace(open_session(tenant), tokenizer_fingerprint=info.tokenizer_fingerprint)
        )
        return await link.receive()
    finally:
        await link.close()


def as_device(named: str) -> Operation:
    """At the verifier with a certificate of our authority that is bound to tenant other."""
    return lambda fleet: verify(fleet, named, **fleet.pki.issue("device", tenant="other"))


def at_verifier_with(settings: Callable[[Fleet], dict[str, str]]) -> Operation:
    return lambda fleet: verify(fleet, "acme", **settings(fleet))


def wrong_authority(fleet: Fleet) -> dict[str, str]:
    """A certificate of another authority, whose owner trusts ours."""
    return fleet.stranger.issue("drafter") | fleet.pki.settings()


FORBIDDEN = {
    # a client of another tenant
    "attach to another's running request": Row(resume("run"), NOT_FOUND),
    "attach to another's finished request": Row(resume("done"), NOT_FOUND),
    "read another's request from a position": Row(resume("done", 7), NOT_FOUND),
    "attach by the id that logs show": Row(resume(bus_id("acme", "run")), NOT_FOUND),
    "attach by the id of another's key": Row(resume(request_id_of_key("acme's key")), NOT_FOUND),
    "cancel another's running request": Row(cancel("run"), NOT_FOUND),
    "cancel another's finished request": Row(cancel("done"), NOT_FOUND),
    "cancel by the id that logs show": Row(cancel(bus_id("acme", "run")), NOT_FOUND),
    "cancel by the id of another's key": Row(cancel(request_id_of_key("acme's key")), NOT_FOUND),
    "name another tenant in a direct drafter call": Row(
        directly(OTHER.text, "acme"), PERMISSION_DENIED
    ),
    # a client of another tenant at the collections
    "search another's collection": Row(
        in_library(lambda client, _: client.search(vault("work"))), NOT_FOUND
    ),
    "ask what another's collection holds": Row(
        in_library(lambda client, _: client.stats("work", sources=10)), NOT_FOUND
    ),
    "delete from another's collection": Row(
        in_library(lambda client, _: client.delete("work", "secret")), NOT_FOUND
    ),
    "delete another's collection": Row(
        in_library(lambda client, _: client.delete("work", None)), NOT_FOUND
    ),
    "watch another's ingest": Row(
        in_library(lambda client, fleet: watched(client, fleet.job_id)), NOT_FOUND
    ),
    # a device of another tenant, with a certificate
    "take over another's verifier session in its name": Row(as_device("acme"), PERMISSION_DENIED),
    # a client at the verifier
    "a client's key at the verifier": Row(
        at_verifier_with(lambda fleet: {**fleet.pki.settings(), "token": ACME.text}),
        HANDSHAKE,
    ),
    "no certificate at the verifier": Row(
        at_verifier_with(lambda fleet: fleet.pki.settings()), HANDSHAKE
    ),
    "a certificate of another authority at the verifier": Row(
        at_verifier_with(wrong_authority), HANDSHAKE
    ),
    "an expired certificate at the verifier": Row(
        at_verifier_with(lambda fleet: fleet.pki.issue("late", days=1, age_days=3)),
        HANDSHAKE,
    ),
    # a stranger at the drafter
    "no credential at the drafter": Row(directly("", "acme"), UNAUTHENTICATED),
    "a wrong key at the drafter": Row(directly(new_key("acme").text, "acme"), UNAUTHENTICATED),
}

STRANGERS = {
    "no token": lambda: "",
    "a key that was never made": lambda: new_key("acme").text,
    "a key that was revoked": lambda: REVOKED.text,
    "a key with another's secret": lambda: ACME.text[:14] + OTHER.text[14:],
    "a token of another signer": lambda: token(STRANGER),
    "a token with another's signature": lambda: (
        token(SIGNER).rpartition(".")[0] + "." + token(SIGNER, tenant="other").rpartition(".")[2]
    ),
    "a token without signature": lambda: unsigned({"alg": "none", "kid": SIGNER.kid}, claims()),
    "an expired token": lambda: token(SIGNER, exp=1),
    "a token for another service": lambda: token(SIGNER, aud="another"),
    "a token of another issuer": lambda: token(SIGNER, iss="https://elsewhere.test"),
    "a token of no tenant": lambda: token(SIGNER, tenant=None),
    "a token whose tenant is no name": lambda: token(SIGNER, tenant="../acme"),
    "garbage": lambda: "garbage",
}
CALLS = {
    "generate": lambda client: collect(client.generate(ask("new"))),
    "repeat by key": lambda client: collect(client.generate(ask(idempotency_key="acme's key"))),
    "resume": lambda client: collect(client.resume("done")),
    "cancel": lambda client: client.cancel("run"),
    "info": lambda client: client.info(),
}


LIBRARY_CALLS = {
    "ingest": lambda client: client.ingest(parts(DOCUMENTS)),
    "watch": lambda client: watched(client, "any"),
    "search": lambda client: client.search(vault("work")),
    "delete": lambda client: client.delete("work", None),
    "stats": lambda client: client.stats(),
}


async def status_of(name: str, operation: Awaitable[object]) -> int:
    """The gRPC status it is refused with; fails when it is not refused."""
    try:
        async with asyncio.timeout(60):
            got = await operation
    except HolaError as error:
        return HANDSHAKE if "hung up during the handshake" in error.message else error.grpc_code
    raise AssertionError(f"{name}: not refused but answered with {got}")


@asynccontextmanager
async def running_request(fleet: Fleet) -> AsyncIterator[asyncio.Task[list[GenerateEvent]]]:
    """acme's request "run" under way, held in a pass of the target."""
    fleet.engine.hold()
    following = asyncio.create_task(collect(fleet.at_router(ACME.text).generate(ask("run"))))
    await fleet.engine.in_pass()
    try:
        yield following
    finally:
        fleet.engine.release()
        await asyncio.wait([following], timeout=60)


async def test_every_forbidden_operation_is_refused(fleet: Fleet) -> None:
    async with running_request(fleet) as following:
        for name, row in FORBIDDEN.items():
            assert await status_of(name, row.does(fleet)) == row.status, name
            assert not following.done(), name
        fleet.engine.release()
        events = await asyncio.wait_for(following, 60)
    assert ids_of(events) == expected(fleet), "the running request is as if nobody had tried"
    assert await collect(fleet.at_router(ACME.text).resume("done")) == fleet.finished
    held = await fleet.at_library(ACME.text).stats("work", sources=10)
    assert (held.sources, len(held.jobs)) == (("secret",), 1), "so are the collections"
    await eventually(lambda: fleet.engine.closed_sessions == fleet.engine.opened_sessions, "free")


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_no_stranger_gets_any_call(fleet: Fleet, stranger: str) -> None:
    client = fleet.at_router(STRANGERS[stranger]())
    async with running_request(fleet) as following:
        for name, call in CALLS.items():
            assert await status_of(f"{stranger}: {name}", call(client)) == UNAUTHENTICATED, name
        library = fleet.at_library(STRANGERS[stranger]())
        for name, call in LIBRARY_CALLS.items():
            assert await status_of(f"{stranger}: {name}", call(library)) == UNAUTHENTICATED, name
        assert not following.done()
        fleet.engine.release()
        assert ids_of(await asyncio.wait_for(following, 60)) == expected(fleet)


async def test_a_refusal_says_no_more_than_one_of_what_never_was(fleet: Fleet) -> None:
    """No oracle: message and details of another's request and of none are the same."""
    other = fleet.at_router(OTHER.text)

    async def refused(operation: Awaitable[object], request_id: str) -> tuple[object, ...]:
        with pytest.raises(HolaError) as caught:
            await operation
        error = caught.value
        details = {key: value.replace(request_id, "ID") for key, value in error.details.items()}
        return type(error), error.message.replace(request_id, "ID"), details

    told = [
        await refused(make(request_id), request_id)
        for request_id in ("done", "nope", request_id_of_key("acme's key"))
        for make in (lambda name: collect(other.resume(name)), other.cancel)
    ]
    assert all(each == told[0] for each in told)


async def test_names_and_keys_of_two_tenants_do_not_meet(fleet: Fleet) -> None:
    """Using another's id or key is nothing forbidden: it is a name in one's own house."""
    other = fleet.at_router(OTHER.text)
    changed = replace(ask("done"), sampling=replace(SAMPLING, seed=99))
    theirs = await collect(other.generate(changed))
    assert ids_of(theirs) != ids_of(fleet.finished)
    assert theirs[0].request_id == "done"
    keyed = await collect(
        other.generate(replace(changed, request_id="", idempotency_key="acme's key"))
    )
    assert ids_of(keyed) == ids_of(theirs)
    acme = fleet.at_router(ACME.text)
    assert await collect(acme.resume("done")) == fleet.finished
    again = await collect(acme.generate(ask(idempotency_key="acme's key")))
    assert ids_of(again) == ids_of(fleet.finished)
    assert terminal(await collect(other.resume("done"))) == terminal(theirs)


async def test_collections_of_two_tenants_do_not_meet(fleet: Fleet) -> None:
    """The same names are each tenant's own; nothing of the other's is found or listed."""
    acme, other = fleet.at_library(ACME.text), fleet.at_library(OTHER.text)
    nothing = await other.stats()
    assert (nothing.collections, nothing.jobs) == ((), ())
    await other.ingest(parts({"secret": "Theirs is a cellar.", "vault": "No vault."}))
    found = await other.search(vault("work"))
    assert [passage.source for _, passage in found.passages] == ["vault"]
    assert (await other.delete("work", "secret")).documents == 1
    (held,) = (await acme.stats()).collections
    assert held.documents == 1
    found = await acme.search(vault("work"))
    assert [passage.chunk.text for _, passage in found.passages] == [DOCUMENTS["secret"]]
    by_token = fleet.at_library(token(SIGNER))
    assert (await by_token.stats()).collections == (await acme.stats()).collections
    told = []
    for collection in ("nowhere", "else"):
        with pytest.raises(HolaError) as refused:
            await acme.stats(collection)
        told.append(refused.value.message.replace(collection, "NAME"))
    assert told[0] == told[1]
    assert "cellar" not in told[0]


async def test_one_tenant_by_key_and_by_token_is_the_same(fleet: Fleet) -> None:
    by_token = fleet.at_router(token(SIGNER))
    assert await collect(by_token.resume("done")) == fleet.finished


async def test_another_tenants_device_gets_a_session_of_its_own(fleet: Fleet) -> None:
    """The same session id, in its own tenant's name: acme's session does not notice."""
    device = fleet.pki.issue("device", tenant="other")
    async with running_request(fleet) as following:
        info = await fleet.at_verifier(**device).info()
        link = await fleet.at_verifier(**device).connect()
        message = replace(open_session(""), tokenizer_fingerprint=info.tokenizer_fingerprint)
        await link.send(message)
        answer = asyncio.create_task(link.receive())
        fleet.engine.release()
        assert (await answer).cached_tokens == 0
        await link.send(DraftBlock(round=1, base_position=0))
        await link.receive()
        await link.close()
        assert ids_of(await asyncio.wait_for(following, 60)) == expected(fleet)


async def test_the_bus_wants_its_own_password(fleet: Fleet, start_redis: Callable[[], Any]) -> None:
    """What keeps tenants apart is worth nothing to who may read Redis: that has its own lock."""
    server = start_redis()
    async with Redis.from_url(server.url) as admin:
        await admin.config_set("requirepass", "locked")
    settings = Settings(bus=server.url, model=MODEL, models_dir=str(fleet.pki.folder))
    app = hola_router.app.build(settings)
    with pytest.raises(HolaError) as refused:
        await app.start()
    await app.stop()
    assert "locked" not in refused.value.message
