"""Both ends prove who they are; whoever cannot is told why, in time, and disturbs nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from hola.config import Settings
from hola.errors import ConfigError, HolaError, ServiceUnavailable, Unauthenticated
from hola.rpc.channel import open_channel, wait_ready
from hola.rpc.errors import error_from_call
from hola.rpc.server import RpcServer
from hola.security.caller import current_caller
from hola.security.tls import watched_pems
from hola.telemetry import Metrics
from tests.support.rpc import KINDS, KindsRig, read_all, running_kinds, start_call
from tests.support.security import Pki, replace_file

UNREACHABLE = ServiceUnavailable("no connection", address="a")


async def who(text: str) -> str:
    caller = current_caller()
    return f"{caller.kind} {caller.tenant} {caller.name}"


@asynccontextmanager
async def channel_to(address: str, **settings: Any) -> AsyncIterator[grpc.aio.Channel]:
    channel = open_channel(address, Settings(**settings))
    try:
        yield channel
    finally:
        await channel.close()


async def refused(address: str, *, final: bool = False, **settings: Any) -> HolaError:
    """What a client with these settings is told when it wants to connect."""
    async with channel_to(address, **settings) as channel:
        with pytest.raises(HolaError) as raised:
            await wait_ready(channel, 3, UNREACHABLE, final=final)
    return raised.value


@asynccontextmanager
async def encrypted(pki: Pki, name: str = "verifier", **settings: Any) -> AsyncIterator[KindsRig]:
    client = Settings(**pki.settings("drafter"))
    async with running_kinds(who, client=client, **pki.settings(name), **settings) as rig:
        yield rig


@pytest.mark.parametrize("kind", KINDS)
async def test_a_service_is_known_by_its_certificate(pki: Pki, kind: str) -> None:
    async with encrypted(pki) as rig:
        assert rig.server.address.startswith("grpcs://127.0.0.1:")
        assert set(await rig.call(kind)) == {"service default drafter"}


async def test_a_certificate_may_be_bound_to_a_tenant(pki: Pki) -> None:
    pki.issue("edge", "edge", tenant="acme")
    async with encrypted(pki) as rig, channel_to(rig.server.address, **pki.settings("edge")) as own:
        assert await read_all(start_call(own, "unary_unary")) == ["client acme edge"]


async def test_a_certificate_bound_to_two_tenants_is_refused(pki: Pki, tmp_path: Path) -> None:
    from hola.security.authenticate import caller_of_certificate

    uris = (b"urn:hola:tenant:a", b"urn:hola:tenant:b")
    with pytest.raises(Unauthenticated, match="several tenants"):
        caller_of_certificate({"x509_common_name": (b"x",), "peer_uri": uris})
    with pytest.raises(Unauthenticated, match="no valid name"):
        caller_of_certificate({"x509_common_name": (b"x",), "peer_uri": (b"urn:hola:tenant:a/b",)})


async def test_the_name_of_a_server_can_be_given(pki: Pki) -> None:
    pki.issue("named", "verifier.hola.svc")
    client = pki.settings("drafter")
    async with encrypted(pki, "named") as rig:
        error = await refused(rig.server.address, **client)
        assert "for another name (HOLA_TLS_SERVER_NAME)" in error.message
        name = {"tls_server_name": "verifier.hola.svc"}
        async with channel_to(rig.server.address, **client, **name) as channel:
            assert await read_all(start_call(channel, "unary_unary"))


STRANGERS = {
    "wrong authority": "not signed by an authority of HOLA_TLS_CA",
    "certificate of another authority": "may want a certificate of its authority (HOLA_TLS_CERT)",
    "no certificate": "may want a certificate of its authority (HOLA_TLS_CERT)",
    "expired certificate": "may want a certificate of its authority (HOLA_TLS_CERT)",
    "plaintext": "it may want TLS (HOLA_TLS_CA)",
    "wrong name": "for another name",
}


def stranger(name: str, pki: Pki, folder: Path) -> dict[str, str]:
    """Settings of a client that must not get in."""
    other = Pki.at(folder / "other", "other-ca")
    good = pki.settings("drafter")
    pki.issue("late", "late", days=1, age_days=2)
    return {
        "wrong authority": good | {"tls_ca": other.settings()["tls_ca"]},
        "certificate of another authority": other.issue("drafter") | pki.settings(),
        "no certificate": pki.settings(),
        "expired certificate": pki.settings("late"),
        "plaintext": {},
        "wrong name": good | {"tls_server_name": "router"},
    }[name]


@pytest.mark.parametrize("name", STRANGERS)
async def test_a_stranger_is_told_why_and_disturbs_nobody(
    pki: Pki, tmp_path: Path, name: str
) -> None:
    wanted = stranger(name, pki, tmp_path)
    async with encrypted(pki) as rig:
        stream = rig.channel.stream_stream(
            "/hola.test.Kinds/stream_stream", response_deserializer=lambda raw: raw
        )()
        await stream.write(b"")
        assert b"drafter" in await stream.read()
        address = rig.server.address.replace("grpcs", "grpc")
        async with asyncio.timeout(30):
            error = await refused(address, **wanted)
        assert type(error) is ServiceUnavailable
        assert STRANGERS[name] in error.message
        assert error.details["address"] == "a"
        await stream.write(b"")
        assert b"drafter" in await stream.read()
        stream.cancel()


@pytest.mark.parametrize("name", ["wrong authority", "wrong name"])
async def test_a_server_that_is_not_trusted_is_not_tried_again(
    pki: Pki, tmp_path: Path, name: str
) -> None:
    wanted = stranger(name, pki, tmp_path)
    async with encrypted(pki) as rig:
        error = await refused(rig.server.address, final=True, **wanted)
    assert type(error) is Unauthenticated


async def test_an_expired_server(pki: Pki) -> None:
    pki.issue("old", days=1, age_days=2)
    async with encrypted(pki, "old") as rig:
        error = await refused(rig.server.address, **pki.settings("drafter"))
    assert "its certificate has expired" in error.message


async def test_a_server_without_tls(pki: Pki) -> None:
    async with running_kinds() as rig:
        error = await refused(rig.server.address, **pki.settings("drafter"))
    assert "it does not speak TLS" in error.message


async def test_nobody_there(pki: Pki) -> None:
    async with encrypted(pki) as rig:
        address = rig.server.address
    error = await refused(address, **pki.settings("drafter"))
    assert type(error) is ServiceUnavailable


async def test_grpcs_needs_no_setting_but_a_known_authority(pki: Pki) -> None:
    async with encrypted(pki) as rig:
        error = await refused(rig.server.address)
    assert "not signed by an authority of HOLA_TLS_CA" in error.message


async def test_a_unix_socket_stays_as_it_is(pki: Pki, tmp_path: Path) -> None:
    async with encrypted(pki, listen=f"unix://{tmp_path}/s") as rig:
        assert await rig.call("unary_unary") == ["anonymous default "]


async def test_a_front_door_may_be_encrypted_only(pki: Pki) -> None:
    client = Settings(**pki.settings())
    options = pki.settings("verifier") | {"client_certs": "off"}
    async with running_kinds(who, client=client, front_door=True, **options) as rig:
        assert await rig.call("unary_unary") == ["anonymous default "]


async def test_a_silent_peer_is_cut_off(pki: Pki) -> None:
    async with encrypted(pki, connect_timeout_s=0.3) as rig:
        host, _, port = rig.server.address.removeprefix("grpcs://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert await rig.call("unary_unary")


async def test_garbage_instead_of_a_handshake(pki: Pki) -> None:
    async with encrypted(pki) as rig:
        host, _, port = rig.server.address.removeprefix("grpcs://").partition(":")
        for garbage in (
            b"\x00" * 1000,
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\xff\xff" + b"x" * 99,
        ):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(garbage)
            async with asyncio.timeout(30):
                await reader.read()
            writer.close()
        assert await rig.call("unary_unary") == ["service default drafter"]


async def serial_of(address: str) -> bytes:
    """The certificate a server shows to a new connection."""
    import ssl

    host, _, port = address.removeprefix("grpcs://").partition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return bytes(shown)


async def test_a_server_shows_its_new_certificate_and_streams_go_on(pki: Pki) -> None:
    async with encrypted(pki) as rig:
        before = await serial_of(rig.server.address)
        stream = rig.channel.stream_stream(
            "/hola.test.Kinds/stream_stream", response_deserializer=lambda raw: raw
        )()
        await stream.write(b"")
        await stream.read()
        pki.issue("verifier")
        after = await serial_of(rig.server.address)
        assert after != before
        assert await serial_of(rig.server.address) == after
        await stream.write(b"")
        assert b"drafter" in await stream.read()
        stream.cancel()


async def test_half_a_rotation_changes_nothing(pki: Pki, tmp_path: Path) -> None:
    async with encrypted(pki) as rig:
        before = await serial_of(rig.server.address)
        certificate, key = pki.folder / "verifier.crt", pki.folder / "verifier.key"
        old = certificate.read_bytes()
        pki.issue("next")
        replace_file(certificate, (pki.folder / "next.crt").read_bytes())
        assert await serial_of(rig.server.address) == before
        replace_file(certificate, b"")
        assert await serial_of(rig.server.address) == before
        certificate.unlink()
        assert await serial_of(rig.server.address) == before
        replace_file(certificate, (pki.folder / "next.crt").read_bytes())
        replace_file(key, (pki.folder / "next.key").read_bytes())
        assert await serial_of(rig.server.address) not in (before, old)
        assert await rig.call("unary_unary") == ["service default drafter"]


async def test_a_client_shows_its_new_certificate_with_its_next_call(pki: Pki) -> None:
    async with (
        encrypted(pki) as rig,
        channel_to(rig.server.address, **pki.settings("drafter")) as own,
    ):
        streaming = start_call(own, "stream_stream")
        assert await read_all(start_call(own, "unary_unary")) == ["service default drafter"]
        pki.issue("drafter", "drafter", tenant="acme")
        assert await read_all(start_call(own, "unary_unary")) == ["client acme drafter"]
        assert await read_all(streaming) == ["service default drafter"]


async def test_a_stream_outlives_the_rotation_of_its_client(pki: Pki) -> None:
    async with encrypted(pki) as rig:
        stream = rig.channel.stream_stream(
            "/hola.test.Kinds/stream_stream", response_deserializer=lambda raw: raw
        )()
        await stream.write(b"")
        await stream.read()
        for _ in range(3):
            pki.issue("drafter", "drafter")
            await wait_ready(rig.channel, 10, UNREACHABLE)
            assert await rig.call("unary_unary") == ["service default drafter"]
        await stream.write(b"")
        assert b"drafter" in await stream.read()
        stream.cancel()


async def test_a_new_authority_is_trusted_without_a_restart(pki: Pki, tmp_path: Path) -> None:
    """Both trust both, then the certificates change, then the old authority goes."""
    new = Pki.at(tmp_path / "new", "new-ca")
    new.issue("verifier")
    new.issue("drafter", "drafter")
    both = pki.authority.certificate + new.authority.certificate
    async with encrypted(pki) as rig:
        for step in ("both", "moved", "only new"):
            replace_file(
                pki.folder / "ca.crt", new.authority.certificate if step == "only new" else both
            )
            if step == "moved":
                for name in ("verifier", "drafter"):
                    for kind in ("key", "crt"):
                        content = (new.folder / f"{name}.{kind}").read_bytes()
                        replace_file(pki.folder / f"{name}.{kind}", content)
            assert await rig.call("unary_unary") == ["service default drafter"], step
        old = {"tls_ca": str(pki.folder / "ca.crt")} | pki_old(pki, tmp_path)
        assert "may want a certificate" in (await refused(rig.server.address, **old)).message


def pki_old(pki: Pki, folder: Path) -> dict[str, str]:
    """A certificate of the authority that is not trusted any more."""
    old = Pki(folder / "old", pki.authority)
    old.folder.mkdir()
    names = old.issue("drafter")
    return {name: names[name] for name in ("tls_cert", "tls_key")}


async def test_new_calls_need_a_new_connection_in_time_and_streams_go_on(pki: Pki) -> None:
    async def peer(text: str) -> str:
        await asyncio.sleep(0)
        return text

    client = Settings(**pki.settings("drafter"))
    options = {**pki.settings("verifier"), "connection_age_s": 1.0}
    async with running_kinds(peer, client=client, **options) as rig:
        stream = start_stream(rig.channel)
        await stream.write(b"")
        await stream.read()
        left = asyncio.create_task(left_ready(rig.channel))
        async with asyncio.timeout(30):
            await left
        assert await rig.call("unary_unary", "x") == ["x"]
        await stream.write(b"")
        await stream.read()
        stream.cancel()


async def test_a_connection_without_calls_is_given_up_and_comes_back(pki: Pki) -> None:
    async with encrypted(pki, connection_idle_s=1.0) as rig:
        assert await rig.call("unary_unary")
        async with asyncio.timeout(30):
            await left_ready(rig.channel)
        assert await rig.call("unary_unary") == ["service default drafter"]


def start_stream(channel: grpc.aio.Channel) -> Any:
    return channel.stream_stream(
        "/hola.test.Kinds/stream_stream", response_deserializer=lambda raw: raw
    )()


async def left_ready(channel: grpc.aio.Channel) -> None:
    """Return when the connection has been given up: the server asked for another one."""
    while channel.get_state() is grpc.ChannelConnectivity.READY:
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)


@pytest.mark.parametrize("missing", ["tls_cert", "tls_key", "tls_ca"])
def test_a_server_is_set_up_whole_or_not_at_all(pki: Pki, missing: str) -> None:
    settings = pki.settings("verifier")
    del settings[missing]
    with pytest.raises(ConfigError, match=f"TLS is set up halfway.*HOLA_{missing.upper()} missing"):
        RpcServer("127.0.0.1:0", [], Settings(**settings), Metrics())


async def test_a_client_is_set_up_in_a_way_that_works(pki: Pki) -> None:
    whole = pki.settings("drafter")
    for missing in ("tls_cert", "tls_key", "tls_ca"):
        with pytest.raises(ConfigError, match="TLS is set up halfway"):
            open_channel(
                "localhost:1", Settings(**{k: v for k, v in whole.items() if k != missing})
            )


def spoil(path: Path, content: bytes | None) -> None:
    path.unlink() if content is None else path.write_bytes(content)


@pytest.mark.parametrize("name", ["tls_cert", "tls_key", "tls_ca"])
@pytest.mark.parametrize("content", [None, b"", b"garbage", b"\xff" * 100, b"-----BEGIN X-----\n"])
async def test_files_that_cannot_be_used(pki: Pki, name: str, content: bytes | None) -> None:
    settings = pki.settings("verifier")
    spoil(Path(settings[name]), content)
    server = RpcServer("127.0.0.1:0", [], Settings(**settings), Metrics())
    with pytest.raises(ConfigError, match="HOLA_TLS_"):
        await server.start()
    with pytest.raises(ConfigError, match="HOLA_TLS_"):
        open_channel("localhost:1", Settings(**settings))


async def test_key_of_another_certificate(pki: Pki) -> None:
    mixed = pki.settings("verifier") | {"tls_key": pki.settings("drafter")["tls_key"]}
    with pytest.raises(ConfigError, match=r"not a certificate and its key.*mismatch"):
        open_channel("localhost:1", Settings(**mixed))


def test_an_encrypted_key_is_not_asked_for(pki: Pki) -> None:
    from cryptography.hazmat.primitives import serialization

    path = Path(pki.settings("verifier")["tls_key"])
    key: Any = serialization.load_pem_private_key(path.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hunter2"),
    )
    path.write_bytes(locked)
    with pytest.raises(ConfigError, match="not a certificate and its key"):
        watched_pems(Settings(**pki.settings("verifier")))


async def test_plaintext_to_another_machine_needs_a_decision(pki: Pki) -> None:
    for address in ("router:7070", "grpc://192.0.2.7:7070", "[2001:db8::1]:7070"):
        with pytest.raises(ConfigError, match="would be called in plaintext"):
            open_channel(address, Settings())
        await open_channel(address, Settings(insecure=True)).close()
        await open_channel(address, Settings(**pki.settings())).close()
    await open_channel("grpcs://router:7070", Settings()).close()


async def test_a_call_on_a_closed_channel(pki: Pki) -> None:
    async with encrypted(pki) as rig:
        await rig.channel.close()
        await rig.channel.close()
        with pytest.raises(grpc.aio.UsageError):
            await rig.call("unary_unary")


async def test_headers_beyond_the_bound_are_refused(pki: Pki) -> None:
    async with encrypted(pki) as rig:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rig.call("unary_unary", metadata=(("x-large", "x" * 20_000),))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error_from_call(raised.value).grpc_code == 8
        assert await rig.call("unary_unary") == ["service default drafter"]
