"""Every call has a known caller, or none gets in: keys and tokens over real sockets."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import (
    HealthCheck,
    example,
    given,
    settings as hypothesis_settings,
    strategies as st,
)

from hola.config import Settings
from hola.errors import ConfigError, HolaError, Overloaded, Unauthenticated
from hola.rpc.channel import open_channel
from hola.rpc.gate import asks_certificates, takes_tokens
from hola.security.api_keys import new_key
from hola.security.authenticate import Authenticator, Claim
from hola.security.failures import BURST
from hola.telemetry import current_id
from tests.support.front_door import front_door, jwt_settings, keys_file, refusal, shown, who
from tests.support.rpc import KINDS, running_kinds
from tests.support.security import Pki, replace_file, signing_key, token
from tests.support.verifier import eventually

ACME, OTHER = new_key("acme"), new_key("other")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_opens_and_its_lack_does_not(tmp_path: Path, kind: str) -> None:
    async with front_door(api_keys=keys_file(tmp_path, ACME, OTHER)) as rig:
        assert set(await rig.call(kind, **shown(ACME.text))) == {"client acme"}
        assert set(await rig.call(kind, **shown(OTHER.text))) == {"client other"}
        missing = await refusal(rig, kind)
        assert type(missing) is Unauthenticated
        assert "authorization: Bearer KEY" in missing.message
        unknown = await refusal(rig, kind, **shown(new_key("acme").text))
        assert type(unknown) is Unauthenticated


@pytest.mark.parametrize("kind", KINDS)
async def test_the_handler_of_a_stranger_never_runs(tmp_path: Path, kind: str) -> None:
    ran = []

    async def act(text: str) -> str:
        ran.append(text)
        return text

    async with front_door(act, api_keys=keys_file(tmp_path, ACME)) as rig:
        await refusal(rig, kind)
        await refusal(rig, kind, **shown("x"))
        await refusal(rig, kind, raw=b"\xff\xff", **shown("x"))
    assert ran == []


async def test_log_lines_of_a_call_name_its_tenant(tmp_path: Path) -> None:
    async def act(text: str) -> str:
        return f"{current_id('tenant')} {current_id('caller')}"

    async with front_door(act, api_keys=keys_file(tmp_path, ACME)) as rig:
        assert await rig.call("stream_stream", **shown(ACME.text)) == [
            f"acme key-{ACME.text[5:13]}"
        ]
    async with front_door(act) as rig:
        assert await rig.call("stream_stream") == [" "]


async def test_calls_are_counted_by_their_refusal(tmp_path: Path) -> None:
    async with front_door(api_keys=keys_file(tmp_path, ACME)) as rig:
        await refusal(rig)
        labels = {"method": "/hola.test.Kinds/unary_unary", "code": "UNAUTHENTICATED"}
        count = partial(rig.metrics.registry.get_sample_value, "hola_rpcs_total", labels)
        await eventually(lambda: count() == 1, "the refused call is counted")


async def test_the_client_shows_its_token_by_itself(tmp_path: Path) -> None:
    keys = keys_file(tmp_path, ACME, OTHER)
    held = tmp_path / "token"
    replace_file(held, f"{ACME.text}\n".encode())
    async with front_door(api_keys=keys, client=Settings(token_file=str(held))) as rig:
        assert await rig.call("stream_stream") == ["client acme"]
        replace_file(held, OTHER.text.encode())
        assert await rig.call("stream_stream") == ["client other"]


async def test_keys_come_and_go_without_a_restart(tmp_path: Path) -> None:
    async with front_door(api_keys=keys_file(tmp_path, ACME)) as rig:
        assert await rig.call("unary_unary", **shown(ACME.text))
        keys_file(tmp_path, OTHER)
        assert type(await refusal(rig, **shown(ACME.text))) is Unauthenticated
        assert await rig.call("unary_unary", **shown(OTHER.text)) == ["client other"]
        replace_file(tmp_path / "keys", b"broken")
        assert await rig.call("unary_unary", **shown(OTHER.text)) == ["client other"]


async def test_tokens_of_an_issuer(tmp_path: Path) -> None:
    key, stranger = signing_key(), signing_key()
    async with front_door(**jwt_settings(tmp_path, key)) as rig:
        good = token(key)
        for _ in range(3):
            assert await rig.call("unary_unary", **shown(good)) == ["client acme"]
        assert await rig.call("unary_unary", **shown(token(key, tenant="b"))) == ["client b"]
        for bad in (token(stranger), token(key, exp=1), token(key, aud="x"), "x", ACME.text):
            assert type(await refusal(rig, **shown(bad))) is Unauthenticated


async def test_an_issuer_changes_its_keys(tmp_path: Path) -> None:
    first, second = signing_key("k1"), signing_key("k2")
    async with front_door(**jwt_settings(tmp_path, first)) as rig:
        old = token(first)
        assert await rig.call("unary_unary", **shown(old))
        jwt_settings(tmp_path, first, second)
        assert await rig.call("unary_unary", **shown(old))
        assert await rig.call("unary_unary", **shown(token(second)))
        jwt_settings(tmp_path, second)
        assert type(await refusal(rig, **shown(old))) is Unauthenticated


async def test_a_remembered_token_expires_all_the_same(tmp_path: Path) -> None:
    key, now = signing_key(), 1_900_000_000.0
    options = Settings(**jwt_settings(tmp_path, key))
    authenticator = Authenticator(options, takes_tokens=True, clock=lambda: now)
    claim = Claim((f"Bearer {token(key, exp=now + 60, iat=now)}",), {}, "ipv4:1.2.3.4:5")
    assert (await authenticator.caller(claim)).tenant == "acme"
    assert (await authenticator.caller(claim)).tenant == "acme"
    now += 120
    with pytest.raises(Unauthenticated, match="expired"):
        await authenticator.caller(claim)


async def test_keys_and_tokens_side_by_side(tmp_path: Path) -> None:
    key = signing_key()
    both = {"api_keys": keys_file(tmp_path, OTHER)} | jwt_settings(tmp_path, key)
    async with front_door(**both) as rig:
        assert await rig.call("unary_unary", **shown(OTHER.text)) == ["client other"]
        assert await rig.call("unary_unary", **shown(token(key))) == ["client acme"]


HEADERS = [
    (),
    (("authorization", ""),),
    (("authorization", "Bearer"),),
    (("authorization", "Bearer "),),
    (("authorization", ACME.text),),
    (("authorization", f"Basic {ACME.text}"),),
    (("authorization", f"Bearer {ACME.text} x"),),
    (("authorization", f"Bearer {ACME.text}, Bearer {OTHER.text}"),),
    (("authorization", f"Bearer {ACME.text}"), ("authorization", f"Bearer {OTHER.text}")),
    (("authorization", "Bearer " + "x" * 8193),),
    (("x-authorization", f"Bearer {ACME.text}"),),
    (("authorization-bin", f"Bearer {ACME.text}".encode()),),
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
async def test_headers_of_another_form(tmp_path: Path, header: Any) -> None:
    async with front_door(api_keys=keys_file(tmp_path, ACME, OTHER)) as rig:
        assert type(await refusal(rig, metadata=header)) is Unauthenticated


async def test_the_scheme_may_be_written_in_any_case(tmp_path: Path) -> None:
    async with front_door(api_keys=keys_file(tmp_path, ACME)) as rig:
        for scheme in ("bearer", "BEARER"):
            header = (("authorization", f"{scheme}  {ACME.text} "),)
            assert await rig.call("unary_unary", metadata=header) == ["client acme"]


@pytest.fixture
def strict(tmp_path: Path) -> Authenticator:
    """Takes keys and tokens."""
    options = Settings(api_keys=keys_file(tmp_path, ACME), **jwt_settings(tmp_path, signing_key()))
    return Authenticator(options, takes_tokens=True)


@given(values=st.lists(st.text(max_size=60), min_size=1, max_size=3), peer=st.text())
@example(values=["Bearer \x00"], peer="ipv4:1.2.3.4:5")
@example(values=["Bearer \ud800"], peer="ipv6:[::1]:5")
@example(values=["Bearer hola_" + "\u0660" * 8 + "_" + "A" * 43], peer="")
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_header_is_refused_in_order(
    strict: Authenticator, values: list[str], peer: str
) -> None:
    with pytest.raises((Unauthenticated, Overloaded)):
        asyncio.run(strict.caller(Claim(tuple(values), {}, peer)))


async def test_who_fails_too_often_waits_and_others_beside_it_do_not(tmp_path: Path) -> None:
    key = signing_key()
    options = {"api_keys": keys_file(tmp_path, ACME)} | jwt_settings(tmp_path, key)
    settings = Settings(**options)
    authenticator = Authenticator(settings, takes_tokens=True)
    peer, neighbour = "ipv4:192.0.2.1:5", "ipv4:192.0.2.2:5"

    async def outcome(text: str, peer: str) -> Any:
        try:
            return (await authenticator.caller(Claim((f"Bearer {text}",), {}, peer))).tenant
        except HolaError as error:
            return error

    remembered, fresh = token(key), token(key, sub="bob")
    assert await outcome(remembered, peer) == "acme"
    for _ in range(BURST):
        assert type(await outcome(new_key("x").text, peer)) is Unauthenticated
    late = await outcome(new_key("x").text, peer)
    assert type(late) is Overloaded
    assert late.details["retry_after_ms"] == "1000"
    assert type(await outcome("garbage", neighbour)) is Unauthenticated
    for good in (remembered, fresh, ACME.text):
        assert await outcome(good, peer) == "acme"
    assert type(await outcome("garbage", peer)) is Overloaded


async def test_a_token_is_less_than_a_certificate(pki: Pki, tmp_path: Path) -> None:
    """Both shown: the call counts as the client's, who may do less than a service."""
    options = pki.settings("verifier") | {"client_certs": "require"}
    client = Settings(**pki.settings("drafter"))
    keys = keys_file(tmp_path, ACME)
    async with front_door(api_keys=keys, client=client, **options) as rig:
        assert await rig.call("unary_unary") == ["service default"]
        assert await rig.call("unary_unary", **shown(ACME.text)) == ["client acme"]
        assert type(await refusal(rig, **shown("x"))) is Unauthenticated


async def test_a_token_over_tls_without_a_certificate(pki: Pki, tmp_path: Path) -> None:
    client = Settings(**pki.settings(), token=ACME.text)
    keys = keys_file(tmp_path, ACME)
    async with front_door(api_keys=keys, client=client, **pki.settings("verifier")) as rig:
        assert await rig.call("unary_unary") == ["client acme"]


async def test_a_token_does_not_travel_in_plaintext() -> None:
    for address in ("router:7070", "grpc://192.0.2.7:7070"):
        with pytest.raises(ConfigError, match="plaintext"):
            open_channel(address, Settings(token=ACME.text), shows_token=True)
    for address in ("localhost:7070", "unix:///tmp/none", "grpcs://router:7070"):
        await open_channel(address, Settings(token=ACME.text), shows_token=True).close()


async def test_services_between_themselves_take_no_tokens(tmp_path: Path) -> None:
    async with running_kinds(who, api_keys=keys_file(tmp_path, ACME)) as rig:
        assert await rig.call("unary_unary", **shown(ACME.text)) == ["anonymous default"]


ROUTER, VERIFIER = ["hola.v1.RouterService"], ["hola.v1.VerifierService"]
NODE = [*ROUTER, "hola.v1.DrafterService", *VERIFIER]


@pytest.mark.parametrize(
    ("services", "settings", "tokens", "certificates"),
    [
        (ROUTER, {}, False, True),
        (ROUTER, {"api_keys": "f"}, True, False),
        (ROUTER, {"jwks": "f"}, True, False),
        (ROUTER, {"api_keys": "f", "client_certs": "require"}, True, True),
        (ROUTER, {"client_certs": "off"}, False, False),
        (["hola.v1.DrafterService"], {"api_keys": "f"}, True, False),
        (VERIFIER, {}, False, True),
        (VERIFIER, {"api_keys": "f"}, False, True),
        (["hola.v1.CompressorService"], {"api_keys": "f"}, False, True),
        (NODE, {"api_keys": "f"}, True, False),
    ],
)
def test_what_a_server_asks_for(services, settings, tokens, certificates) -> None:
    chosen = Settings(**settings)
    assert takes_tokens(services, chosen) is tokens
    assert asks_certificates(services, chosen) is certificates


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"api_keys": "/none"}, "HOLA_API_KEYS=/none cannot be read"),
        ({"jwks": "/none", "jwt_issuer": "i", "jwt_audience": "a"}, "HOLA_JWKS=/none cannot"),
        ({"jwks": "/none"}, "HOLA_JWT_ISSUER and HOLA_JWT_AUDIENCE"),
    ],
)
async def test_a_server_does_not_start_with_files_it_cannot_use(settings, why) -> None:
    with pytest.raises(ConfigError, match=why):
        async with front_door(**settings):
            pass
